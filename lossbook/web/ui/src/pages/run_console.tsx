// The console of a run: of a log of any length only the pages in view are loaded; new lines follow while it runs.

import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { AnswerError, api } from "../api";
import { CopyButton, copyText } from "../components/copy_button";
import { SearchBox } from "../components/search_box";
import { LINES_BEYOND, VirtualList, type VirtualListHandle } from "../components/virtual_list";
import { poll } from "../polling";
import { route, setSettings } from "../router";
import { bindShortcuts } from "../shortcuts";
import { ConsoleRow, LINE } from "./console_line";
import { ConsolePages } from "./console_pages";
import { type ConsoleQuery, useMatches } from "./console_search";
import type { ViewProps } from "./view";

/** So many lines are in one list at once, for browsers bound how high a page can be; the rest is a button away. */
const WINDOW_LINES = 400_000;

/** So many, where long lines are broken: their heights differ, so all of them are in the page. */
const WRAPPED_LINES = 600;

const LIVE_MILLISECONDS = 1000;

/** So many of the last lines come with each look; where more were printed meanwhile, their page is asked for. */
const TAIL_LINES = 50;

const BEYOND_ALL = 2 ** 50;

export function ConsoleView({ page, live }: ViewProps) {
  const { settings } = route.value;
  const ranks = page.console_ranks;
  const wanted = Number(settings.get("rank") ?? NaN);
  const rank = ranks.includes(wanted) ? wanted : ranks[0];
  if (rank === undefined) {
    return (
      <p class="empty">
        Nothing was printed{live ? " yet" : ""}. What a script prints is kept by itself: <code>print("step 1")</code>,
        unless it began with <code>lossbook.init(console=False)</code>.
      </p>
    );
  }
  return <RankConsole key={rank} project={page.project} run={page.row.id} rank={rank} ranks={ranks} live={live} />;
}

function RankConsole({ project, run, rank, ranks, live }: ConsoleQuery & { ranks: readonly number[]; live: boolean }) {
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
  const pages = useRef<ConsolePages | null>(null);
  pages.current ??= new ConsolePages({ project, run, rank }, () => redraw((count) => count + 1));
  const list = useRef<VirtualListHandle>(null);
  const wrapped = useRef<HTMLDivElement>(null);
  const sight = useRef<[number, number]>([0, 100]);
  const target = useRef<{ line: number; where: "middle" | "start" } | null>(
    marked === null ? null : { line: marked, where: "middle" },
  );

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
      if (wrap)
        document
          .getElementById(`console-${to.line}`)
          ?.scrollIntoView({ block: to.where === "start" ? "start" : "center" });
      else list.current?.show(to.line - first, to.where);
    } else if (following) {
      list.current?.toEnd();
      wrapped.current?.scrollTo({ top: wrapped.current.scrollHeight });
    }
  });

  const show = useCallback(
    (line: number, where: "middle" | "start" = "middle"): void => {
      target.current = { line, where };
      setBase((before) =>
        line >= before && line < before + span && !followingNow.current
          ? before
          : Math.max(0, line - Math.floor(span / 2)),
      );
      setFollowing(false);
      redraw((count) => count + 1);
    },
    [span],
  );
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
  const step = useCallback(
    (back: boolean): void => {
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
    },
    [matches.lines, marked, show],
  );

  // The line at the top stays there when long lines are broken, and when they no longer are.
  const turnWrap = (): void => {
    let top = first + sight.current[0] + LINES_BEYOND;
    const lines = wrapped.current;
    if (lines !== null)
      top =
        first +
        Math.max(
          0,
          [...lines.children].findIndex((line) => (line as HTMLElement).offsetTop >= lines.scrollTop),
        );
    if (!following) {
      setBase(Math.max(0, top - Math.floor((wrap ? WINDOW_LINES : WRAPPED_LINES) / 2)));
      target.current = { line: top, where: "start" };
    }
    setSettings({ wrap: wrap ? null : "1" });
  };
  const turnWrapNow = useRef(turnWrap);
  turnWrapNow.current = turnWrap;

  useEffect(
    () =>
      bindShortcuts([
        { key: "n", description: "next match in the console", action: () => step(false) },
        { key: "N", description: "previous match in the console", action: () => step(true) },
        { key: "f", description: "follow the end of the console", action: toEnd },
        { key: "w", description: "wrap long lines of the console", action: () => turnWrapNow.current() },
      ]),
    [step, toEnd],
  );

  const lineOf = (number: number) => (
    <ConsoleRow
      key={number}
      number={number}
      line={pages.current!.line(number)}
      find={find}
      marked={number === marked}
      high={!wrap}
    />
  );
  const label = `Console of rank ${rank}`;
  const at = marked === null ? -1 : matches.lines.indexOf(marked);
  return (
    <div class="console">
      <div class="bar">
        {ranks.length > 1 && (
          <label>
            Rank{" "}
            <select
              value={String(rank)}
              onChange={(event) => setSettings({ rank: event.currentTarget.value, line: null })}
            >
              {ranks.map((one) => (
                <option key={one} value={String(one)}>
                  {one}
                </option>
              ))}
            </select>
          </label>
        )}
        <SearchBox setting="console" label="Search the console" slash onEnter={step} />
        {find !== "" && (
          <>
            <button
              type="button"
              onClick={() => step(true)}
              disabled={matches.lines.length === 0}
              aria-label="Previous match"
              title="Previous match (N, Shift+Enter)"
            >
              ↑
            </button>
            <button
              type="button"
              onClick={() => step(false)}
              disabled={matches.lines.length === 0}
              aria-label="Next match"
              title="Next match (n, Enter)"
            >
              ↓
            </button>
            <span class="soft" role="status">
              {matches.failure ??
                `${at >= 0 ? `${count(at + 1)} of ` : ""}${count(matches.lines.length)}${matches.more ? "+" : ""} ${matches.lines.length === 1 ? "line" : "lines"}${matches.searching ? " …" : ""}`}
            </span>
          </>
        )}
        <span class="space" />
        <span class="soft">
          {total === null
            ? counting
              ? "counting the lines …"
              : ""
            : `${count(total)} ${total === 1 ? "line" : "lines"}`}
        </span>
        <button type="button" aria-pressed={wrap} onClick={turnWrap} title="Break long lines (w)">
          Wrap
        </button>
        {live && (
          <button
            type="button"
            aria-pressed={following}
            onClick={() => {
              if (!following) return toEnd();
              setBase(first);
              setFollowing(false);
            }}
            title="Stay at the end (f)"
          >
            Follow
          </button>
        )}
        {marked !== null && (
          <CopyButton class="" text={location.href} label="Copy a link to this line">
            Copy link
          </CopyButton>
        )}
        <button type="button" onClick={() => void copyEnd({ project, run, rank })} title="Copy the last 2,000 lines">
          Copy
        </button>
        <a
          class="button"
          href={api.fileAddress({ project, run, path: `console/r${rank}.log` })}
          download={`${run}-r${rank}.log`}
          title="Save the whole log as it is"
        >
          Save
        </a>
      </div>
      {failure !== null && (
        <p class="notice bad" role="alert">
          {failure}
        </p>
      )}
      {first > 0 && (
        <button
          type="button"
          class="more"
          onClick={() => {
            setFollowing(false);
            setBase(Math.max(0, first - Math.floor(span / 2)));
            target.current = { line: first, where: "start" };
          }}
        >
          {count(first)} earlier lines
        </button>
      )}
      {wrap ? (
        <div
          ref={wrapped}
          class="long-list lines wrapped"
          role="log"
          aria-label={label}
          aria-live="off"
          tabIndex={0}
          onWheel={(event) => scrolled(event.deltaY >= 0 && isAtEnd(event.currentTarget))}
          onKeyUp={(event) => scrolled(isAtEnd(event.currentTarget))}
        >
          {Array.from({ length: Math.max(0, end - first) }, (_, line) => lineOf(first + line))}
        </div>
      ) : (
        <VirtualList
          count={Math.max(0, end - first)}
          lineHeight={LINE}
          label={label}
          role="log"
          class="lines"
          handle={list}
          onScroll={scrolled}
          onSight={(from, to) => (sight.current = [from, to])}
          line={(line) => lineOf(first + line)}
        />
      )}
      {end < (total ?? 0) && (
        <button
          type="button"
          class="more"
          onClick={() => {
            setBase(Math.min((total ?? 0) - span, first + Math.floor(span / 2)));
            target.current = { line: end, where: "middle" };
          }}
        >
          {count((total ?? 0) - end)} later lines
        </button>
      )}
      {!following && (
        <button type="button" class="jump" onClick={toEnd}>
          Jump to the end ↓
        </button>
      )}
    </div>
  );
}

const count = (value: number): string => value.toLocaleString("en-US");

function isAtEnd(element: HTMLElement): boolean {
  return element.scrollHeight - element.clientHeight - element.scrollTop < 2 * LINE;
}

async function copyEnd(query: ConsoleQuery): Promise<void> {
  const { lines } = await api.console({ ...query, start: -2000, limit: 2000 });
  await copyText(lines.map(({ text }) => text).join("\n"));
}
