// Searches a console's log: on the server from the beginning, then in new lines.

import { useEffect, useRef, useState } from "preact/hooks";
import { AnswerError, api } from "../api";

const MOST_MATCHES = 5000;

export interface ConsoleQuery {
  project: string;
  run: string;
  rank: number;
}

interface Matches {
  lines: readonly number[];
  searching: boolean;
  more: boolean; // there are more than are kept
  failure: string | null;
}

const NO_MATCHES: Matches = { lines: [], searching: false, more: false, failure: null };

/** Lines that have a text: looked for by the server from the beginning, then in what is printed meanwhile. */
export function useMatches({
  project,
  run,
  rank,
  find,
  total,
}: ConsoleQuery & { find: string; total: number }): Matches {
  const [matches, setMatches] = useState<Matches>(NO_MATCHES);
  const known = useRef<Known>({ find: "", lines: [], from: 0, stop: null });

  useEffect(() => {
    let now = known.current;
    if (now.find !== find) {
      now.stop?.abort();
      now = { find, lines: [], from: 0, stop: null };
      known.current = now;
    }
    if (find === "") return setMatches(NO_MATCHES);
    if (now.stop !== null || now.from >= total || now.lines.length >= MOST_MATCHES) return;
    const stop = new AbortController();
    now.stop = stop;
    void search({ project, run, rank }, now, total, stop.signal, setMatches)
      .catch((error: unknown) => {
        if (!stop.signal.aborted)
          setMatches({ ...NO_MATCHES, failure: error instanceof AnswerError ? error.message : String(error) });
      })
      .finally(() => (now.stop = null));
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

async function search(
  asked: ConsoleQuery,
  known: Known,
  total: number,
  signal: AbortSignal,
  tell: (matches: Matches) => void,
): Promise<void> {
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
    if (isFirst || lines.length > 0)
      tell({
        lines: known.lines,
        searching: from !== null,
        more: from !== null && known.lines.length >= MOST_MATCHES,
        failure: null,
      });
  }
  known.from = Math.max(0, total - 1); // the last line may have been half there
}
