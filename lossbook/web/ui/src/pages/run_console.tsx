// What a run printed: of a log of any length only the pages in sight are here; new lines come in while it goes on.

import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import { AnswerError, api } from "../api";
import { poll } from "../polling";
import { CopyButton, copyText } from "../components/copy_button";
import { LINES_BEYOND, VirtualList, type VirtualListHandle } from "../components/virtual_list";
import { HighlightedText, partsOf } from "../components/highlighted_text";
import { SearchBox } from "../components/search_box";
import { linkTo, route, setSettings } from "../router";
import { bindShortcuts } from "../shortcuts";
import type { ConsoleLine } from "../types";
import type { ViewProps } from "./view";

const LINE = 18;
const PAGE_LINES = 500;
const PAGES_KEPT = 24;
/** So many lines are in one list at once, for browsers bound how high a page can be; the rest is a button away. */
const WINDOW_LINES = 400_000;
/** So many, where long lines are broken: their heights differ, so all of them are in the page. */
const WRAPPED_LINES = 600;
const MOST_MATCHES = 5000;
const LIVE_MILLISECONDS = 1000;
/** So many of the last lines come with each look; where more were printed meanwhile, their page is asked for. */
const TAIL_LINES = 50;
const BEYOND_ALL = 2 ** 50;

/** The pages of one rank's log that were asked for, the least used ones forgotten. */
class Pages {
  private readonly pages = new Map<number, { lines: ConsoleLine[]; total: number }>();
  private readonly asked = new Set<number>();

  constructor(private readonly query: { project: string; run: string; rank: number }, private readonly changed: () => void) {}

  line(number: number): ConsoleLine | null {
    return this.pages.get(Math.floor(number / PAGE_LINES))?.lines[number % PAGE_LINES] ?? null;
  }

  /** Have these lines here; `total`: how many lines there are now, so that a page that was not full is asked for again. */
  want(first: number, end: number, total: number): void {
    for (let page = Math.floor(first / PAGE_LINES); page * PAGE_LINES < Math.min(end, total); page += 1) {
      const known = this.pages.get(page);
      const full = known !== undefined && known.lines.length === PAGE_LINES && known.total > (page + 1) * PAGE_LINES;
      if (known !== undefined) {
        this.pages.delete(page); // to the end: the first ones are the least used
        this.pages.set(page, known);
      }
      if (!full && known?.total !== total && !this.asked.has(page)) void this.ask(page, total);
    }
  }

  /** Take in the last lines: some are new, and the last one may have changed in place, as a progress bar does. */
  renew(lines: readonly ConsoleLine[], total: number): void {
    for (const line of lines) {
      const { number } = line;
      const page = this.pages.get(Math.floor(number / PAGE_LINES));
      const place = number % PAGE_LINES;
      if (page === undefined || place > page.lines.length) continue; // a gap: it is asked for when it is in sight
      page.lines[place] = line;
      if (number === total - 1 || place === PAGE_LINES - 1) page.total = total;
    }
  }

  private async ask(page: number, total: number): Promise<void> {
    this.asked.add(page);
    try {
      const { lines } = await api.console({ ...this.query, start: page * PAGE_LINES, limit: PAGE_LINES });
      this.pages.set(page, { lines, total });
      while (this.pages.size > PAGES_KEPT) this.pages.delete(this.pages.keys().next().value!);
      this.changed();
    } catch (error) {
      if (!(error instanceof AnswerError)) throw error; // asked again when the line is next in sight
    } finally {
      this.asked.delete(page);
    }
  }
}

export function ConsoleView({ page, live }: ViewProps) {
  const { settings } = route.value;
  const ranks = page.console_ranks;
  const wanted = Number(settings.get("rank") ?? NaN);
  const rank = ranks.includes(wanted) ? wanted : ranks[0];
  if (rank === undefined) {
    return <p class="empty">Nothing was printed{live ? " yet" : ""}. What a script prints is kept by itself: <code>print("step 1")</code>, unless it began with <code>lossbook.init(console=False)</code>.</p>;
  }
  return <RankConsole key={rank} project={page.project} run={page.row.id} rank={rank} ranks={ranks} live={live} />;
}

interface QueryState {
  project: string;
  run: string;
  rank: number;
}

function RankConsole({ project, run, rank, ranks, live }: QueryState & { ranks: readonly number[]; live: boolean }) {
  const { settings } = route.value;
  const linked = Number(settings.get("line") ?? NaN);
  const marked = Number.isInteger(linked) && linked >= 1 ? linked - 1 : null;
  const wrap = settings.get("wrap") === "1";
  const find = settings.get("console") ?? "";
  const span = wrap ? WRAPPED_LINES : WINDOW_LINES;

  const [total, setTotal] = useState<number | null>(null);
  const [counting, setCounting] = useState(false);
  const [failure, setFailure] = useState<string | null>(null);
  const [following, setFollowing] = useState(marked === null);
  const [base, setBase] = useState(marked === null ? 0 : Math.max(0, marked - Math.floor(span / 2))); // the first line of the list
  const [, redraw] = useState(0);
  const pages = useRef<Pages | null>(null);
  pages.current ??= new Pages({ project, run, rank }, () => redraw((count) => count + 1));
  const list = useRef<VirtualListHandle>(null);
  const wrapped = useRef<HTMLDivElement>(null);
  const sight = useRef<[number, number]>([0, 100]);
  const target = useRef<{ line: number; where: "middle" | "start" } | null>(marked === null ? null : { line: marked, where: "middle" });

  // The end of the log: how long it is, and its last lines.
  useEffect(() => {
    const stop = poll(LIVE_MILLISECONDS, async (signal) => {
      try {
        let answer = await api.console({ project, run, rank, start: -TAIL_LINES, limit: TAIL_LINES }, signal);
        if (!answer.whole) {
          // The lines of a huge log are counted when somebody asks for one beyond its end.
          setCounting(true);
          answer = await api.console({ project, run, rank, start: BEYOND_ALL, limit: 1 }, signal);
        }
        pages.current!.renew(answer.lines, answer.total);
        setTotal(answer.total);
        setCounting(false);
        setFailure(null);
        redraw((count) => count + 1);
        if (!live) stop();
      } catch (error) {
        if (error instanceof AnswerError && error.status !== 0) setFailure(error.message);
        throw error;
      }
    });
    return stop;
  }, [live]);

  const first = following ? Math.max(0, (total ?? 0) - span) : Math.min(base, Math.max(0, (total ?? 0) - 1));
  const end = Math.min(total ?? 0, first + span);

  // After each drawing: have the lines in sight here, and be where one wants to be.
  useEffect(() => {
    if (total === null) return;
    if (wrap) pages.current!.want(first, end, total);
    else pages.current!.want(first + sight.current[0], first + sight.current[1], total);
  });
  useLayoutEffect(() => {
    if (total === null) return;
    const to = target.current;
    if (to !== null) {
      target.current = null;
      if (wrap) document.getElementById(`console-${to.line}`)?.scrollIntoView({ block: to.where === "start" ? "start" : "center" });
      else list.current?.show(to.line - first, to.where);
    } else if (following) {
      list.current?.toEnd();
      wrapped.current?.scrollTo({ top: wrapped.current.scrollHeight });
    }
  });

  const show = useCallback((line: number, where: "middle" | "start" = "middle"): void => {
    target.current = { line, where };
    setBase((before) => (line >= before && line < before + span && !followingNow.current ? before : Math.max(0, line - Math.floor(span / 2))));
    setFollowing(false);
    redraw((count) => count + 1);
  }, [span]);
  const followingNow = useRef(following);
  followingNow.current = following;

  const toEnd = useCallback((): void => {
    setSettings({ line: null });
    setFollowing(true);
  }, []);

  // A person who scrolls away from the end stays where they are; back at the end, they follow it again.
  const scrolled = (atEnd: boolean): void => {
    if (atEnd === following) return;
    if (!atEnd) setBase(first);
    setFollowing(atEnd && end === total);
  };

  const matches = useMatches({ project, run, rank, find, total: total ?? 0 });
  const step = useCallback((back: boolean): void => {
    const { lines } = matches;
    if (lines.length === 0) return;
    const at = marked === null ? -1 : lines.indexOf(marked);
    let next: number;
    if (at >= 0) next = (at + (back ? -1 : 1) + lines.length) % lines.length;
    else {
      const beyond = lines.findIndex((line) => line > (marked ?? -1));
      next = back ? (beyond <= 0 ? lines.length : beyond) - 1 : Math.max(0, beyond);
    }
    setSettings({ line: String(lines[next]! + 1) });
    show(lines[next]!);
  }, [matches.lines, marked, show]);

  // The line at the top stays there when long lines are broken, and when they no longer are.
  const turnWrap = (): void => {
    let top = first + sight.current[0] + LINES_BEYOND;
    const lines = wrapped.current;
    if (lines !== null) top = first + Math.max(0, [...lines.children].findIndex((line) => (line as HTMLElement).offsetTop >= lines.scrollTop));
    if (!following) {
      setBase(Math.max(0, top - Math.floor((wrap ? WINDOW_LINES : WRAPPED_LINES) / 2)));
      target.current = { line: top, where: "start" };
    }
    setSettings({ wrap: wrap ? null : "1" });
  };
  const turnWrapNow = useRef(turnWrap);
  turnWrapNow.current = turnWrap;

  useEffect(() => bindShortcuts([
    { key: "n", description: "next match in the console", action: () => step(false) },
    { key: "N", description: "previous match in the console", action: () => step(true) },
    { key: "f", description: "follow the end of the console", action: toEnd },
    { key: "w", description: "wrap long lines of the console", action: () => turnWrapNow.current() },
  ]), [step, toEnd]);

  const lineOf = (number: number) => (
    <ConsoleRow key={number} number={number} line={pages.current!.line(number)} find={find} marked={number === marked} high={!wrap} />
  );
  const label = `Console of rank ${rank}`;
  const at = marked === null ? -1 : matches.lines.indexOf(marked);
  return (
    <div class="console">
      <div class="bar">
        {ranks.length > 1 && (
          <label>Rank <select value={String(rank)} onChange={(event) => setSettings({ rank: event.currentTarget.value, line: null })}>{ranks.map((one) => <option key={one} value={String(one)}>{one}</option>)}</select></label>
        )}
        <SearchBox setting="console" label="Search the console" slash onEnter={step} />
        {find !== "" && (
          <>
            <button onClick={() => step(true)} disabled={matches.lines.length === 0} aria-label="Previous match" title="Previous match (N, Shift+Enter)">↑</button>
            <button onClick={() => step(false)} disabled={matches.lines.length === 0} aria-label="Next match" title="Next match (n, Enter)">↓</button>
            <span class="soft" role="status">
              {matches.failure ?? `${at >= 0 ? `${count(at + 1)} of ` : ""}${count(matches.lines.length)}${matches.more ? "+" : ""} ${matches.lines.length === 1 ? "line" : "lines"}${matches.searching ? " …" : ""}`}
            </span>
          </>
        )}
        <span class="space" />
        <span class="soft">{total === null ? (counting ? "counting the lines …" : "") : `${count(total)} ${total === 1 ? "line" : "lines"}`}</span>
        <button aria-pressed={wrap} onClick={turnWrap} title="Break long lines (w)">Wrap</button>
        {live && <button aria-pressed={following} onClick={() => (following ? (setBase(first), setFollowing(false)) : toEnd())} title="Stay at the end (f)">Follow</button>}
        {marked !== null && <CopyButton class="" text={location.href} label="Copy a link to this line">Copy link</CopyButton>}
        <button onClick={() => void copyEnd({ project, run, rank })} title="Copy the last 2,000 lines">Copy</button>
        <a class="button" href={api.fileAddress({ project, run, path: `console/r${rank}.log` })} download={`${run}-r${rank}.log`} title="Save the whole log as it is">Save</a>
      </div>
      {failure !== null && <p class="notice bad" role="alert">{failure}</p>}
      {first > 0 && <button class="more" onClick={() => { setFollowing(false); setBase(Math.max(0, first - Math.floor(span / 2))); target.current = { line: first, where: "start" }; }}>{count(first)} earlier lines</button>}
      {wrap ? (
        <div
          ref={wrapped} class="long-list lines wrapped" role="log" aria-label={label} aria-live="off" tabIndex={0}
          onWheel={(event) => scrolled(event.deltaY >= 0 && isAtEnd(event.currentTarget))}
          onKeyUp={(event) => scrolled(isAtEnd(event.currentTarget))}
        >
          {Array.from({ length: Math.max(0, end - first) }, (_, line) => lineOf(first + line))}
        </div>
      ) : (
        <VirtualList
          count={Math.max(0, end - first)} lineHeight={LINE} label={label} role="log" class="lines" handle={list} onScroll={scrolled}
          onSight={(from, to) => (sight.current = [from, to])} line={(line) => lineOf(first + line)}
        />
      )}
      {end < (total ?? 0) && <button class="more" onClick={() => { setBase(Math.min((total ?? 0) - span, first + Math.floor(span / 2))); target.current = { line: end, where: "middle" }; }}>{count((total ?? 0) - end)} later lines</button>}
      {!following && <button class="jump" onClick={toEnd}>Jump to the end ↓</button>}
    </div>
  );
}

const count = (value: number): string => value.toLocaleString("en-US");

function isAtEnd(element: HTMLElement): boolean {
  return element.scrollHeight - element.clientHeight - element.scrollTop < 2 * LINE;
}

async function copyEnd(query: QueryState): Promise<void> {
  const { lines } = await api.console({ ...query, start: -2000, limit: 2000 });
  await copyText(lines.map(({ text }) => text).join("\n"));
}

function ConsoleRow(props: { number: number; line: ConsoleLine | null; find: string; marked: boolean; high: boolean }) {
  const { project, run, view, settings } = route.value;
  const link = new URLSearchParams(settings);
  link.set("line", String(props.number + 1));
  return (
    <div id={`console-${props.number}`} class={`line ${props.marked ? "marked" : ""}`} style={props.high ? { height: `${LINE}px` } : {}}>
      <a
        class="line-number" href={linkTo({ project, run, view }, link)} aria-label={`Line ${props.number + 1}`}
        onClick={(event) => { event.preventDefault(); setSettings({ line: String(props.number + 1) }); }}
      >{props.number + 1}</a>
      <span class="text">{props.line === null ? <span class="soft">…</span> : <Printed line={props.line} find={props.find} />}</span>
    </div>
  );
}

/** A line as a terminal would colour it; where it has what was searched for, that is what stands out. */
function Printed({ line, find }: { line: ConsoleLine; find: string }) {
  const more = line.cut && <span class="soft"> … the line goes on</span>;
  if (line.spans.length === 0 || partsOf(line.text, find).length > 1) return <><HighlightedText text={line.text} find={find} />{more}</>;
  const letters = [...line.text]; // spans count characters, not UTF-16 units
  const piece = (start: number, end?: number): preact.JSX.Element => <HighlightedText text={letters.slice(start, end).join("")} />;
  const parts: preact.ComponentChildren[] = [];
  let at = 0;
  for (const { start, end, style } of line.spans) {
    if (start > at) parts.push(piece(at, start));
    const words = style.split(" ").filter((word) => /^[a-z-]+$/.test(word)).map((word) => `ansi-${word}`).join(" ");
    parts.push(<span class={words}>{piece(Math.max(at, start), end)}</span>);
    at = Math.max(at, end);
  }
  return <>{parts}{piece(at)}{more}</>;
}

// -- search ----------------------------------------------------------------------------------------------------------

interface Matches {
  lines: readonly number[];
  searching: boolean;
  more: boolean; // there are more than are kept
  failure: string | null;
}

const NO_MATCHES: Matches = { lines: [], searching: false, more: false, failure: null };

/** Lines that have a text: looked for by the server from the beginning, then in what is printed meanwhile. */
function useMatches({ project, run, rank, find, total }: QueryState & { find: string; total: number }): Matches {
  const [matches, setMatches] = useState<Matches>(NO_MATCHES);
  const known = useRef<Known>({ find: "", lines: [], from: 0, stop: null });

  useEffect(() => {
    let now = known.current;
    if (now.find !== find) {
      now.stop?.abort();
      known.current = now = { find, lines: [], from: 0, stop: null };
    }
    if (find === "") return setMatches(NO_MATCHES);
    if (now.stop !== null || now.from >= total || now.lines.length >= MOST_MATCHES) return;
    const stop = (now.stop = new AbortController());
    void search({ project, run, rank }, now, total, stop.signal, setMatches).catch((error: unknown) => {
      if (!stop.signal.aborted) setMatches({ ...NO_MATCHES, failure: error instanceof AnswerError ? error.message : String(error) });
    }).finally(() => (now.stop = null));
  }, [project, run, rank, find, total]);
  useEffect(() => () => known.current.stop?.abort(), []);
  return matches;
}

/** What is known of where a text stands. */
interface Known {
  find: string;
  lines: number[];
  from: number; // looked through up to here
  stop: AbortController | null; // of the search that is under way
}

async function search(asked: QueryState, known: Known, total: number, signal: AbortSignal, tell: (matches: Matches) => void): Promise<void> {
  const isFirst = known.from === 0;
  if (isFirst) {
    tell({ ...NO_MATCHES, searching: true });
    // Somebody who types asks for many words and means the last.
    await new Promise((done) => setTimeout(done, 200));
  }
  let from: number | null = known.from;
  while (from !== null && known.lines.length < MOST_MATCHES) {
    if (signal.aborted) return;
    const found = await api.searchConsole({ ...asked, text: known.find, start: from, limit: 500 }, signal);
    const last = known.lines.at(-1) ?? -1;
    const lines = found.lines.map(({ number }) => number).filter((number) => number > last);
    if (lines.length > 0) known.lines = [...known.lines, ...lines];
    from = found.next;
    if (isFirst || lines.length > 0) tell({ lines: known.lines, searching: from !== null, more: from !== null && known.lines.length >= MOST_MATCHES, failure: null });
  }
  known.from = Math.max(0, total - 1); // the last line may have been half there
}
