// Queries the server from a component: once, or polling while a run is running. An equal answer causes no new render.

import { useEffect, useRef, useState } from "preact/hooks";

import { AnswerError, api } from "../api";
import { poll } from "../polling";
import type { Attempt, Event, Events } from "../types";

export interface QueryState<T> {
  answer: T | null;
  failure: string | null; // why there is none, or none that is newer
}

/** The answer to a question; another `name` is another question. `live`: ask every `milliseconds`. */
export function useQuery<T>(
  name: string,
  ask: (signal: AbortSignal) => Promise<T>,
  live: boolean,
  milliseconds = 2000,
): QueryState<T> {
  const [asked, setAsked] = useState<QueryState<T> & { name: string; text: string }>({
    name,
    answer: null,
    failure: null,
    text: "",
  });
  const question = useRef(ask);
  question.current = ask;
  useEffect(() => {
    const stop = poll(milliseconds, async (signal) => {
      try {
        const answer = await question.current(signal);
        if (signal.aborted) return;
        const text = JSON.stringify(answer);
        setAsked((before) =>
          before.name === name && before.failure === null && before.text === text
            ? before
            : { name, answer, failure: null, text },
        );
        if (!live) stop();
      } catch (error) {
        if (error instanceof AnswerError && !signal.aborted) {
          const { message, status } = error;
          // That nobody answers is said once, at the top of the page; what is known stays where it is.
          setAsked((before) =>
            before.name === name && before.answer !== null && status === 0
              ? before
              : before.name === name
                ? { ...before, failure: message }
                : { name, answer: null, failure: message, text: "" },
          );
        }
        throw error;
      }
    });
    return stop;
  }, [name, live, milliseconds]);
  return asked.name === name ? asked : { answer: null, failure: null };
}

/** How far back new events are looked for: ranks write at their own pace. Seconds. */
const LATE_SECONDS = 5;

/** Events of some kinds, by time. Those that come later are added; what is there is not asked for again. */
export function useEvents(
  query: { project: string; run: string; kind: readonly string[]; key?: string; limit: number; thin?: boolean },
  live: boolean,
): QueryState<Events> {
  const name = JSON.stringify(query);
  const known = useRef<{ name: string; events: Events } | null>(null);
  return useQuery(
    name,
    async (signal) => {
      const before = known.current?.name === name ? known.current.events : null;
      const last = before?.events.at(-1);
      if (before === null || last === undefined) {
        const events = await api.events(query, signal);
        known.current = { name, events };
        return events;
      }
      const newer = await api.events(
        {
          project: query.project,
          run: query.run,
          kind: query.kind,
          ...(query.key === undefined ? {} : { key: query.key }),
          limit: query.limit,
          after: last.time - LATE_SECONDS,
        },
        signal,
      );
      const seen = new Set(before.events.map(({ rank, row }) => `${rank} ${row}`));
      const added = newer.events.filter(({ rank, row }) => !seen.has(`${rank} ${row}`));
      if (added.length === 0) return before;
      const events = {
        ...before,
        events: [...before.events, ...added].sort((one, other) => one.time - other.time),
        total: before.total + added.length,
      };
      known.current = { name, events };
      return events;
    },
    live,
  );
}

/** Events that no later attempt has taken anew (docs/format.md, "Which rows count"). */
export function visibleEvents(events: readonly Event[], attempts: readonly Attempt[]): Event[] {
  if (attempts.length < 2) return [...events];
  const firstSteps = new Map<string, number>(); // by attempt and key: where an attempt without a checkpoint begins
  for (const { attempt, key, step } of events) {
    const name = `${attempt} ${key}`;
    if (step !== null) firstSteps.set(name, Math.min(step, firstSteps.get(name) ?? Infinity));
  }
  return events.filter(
    ({ attempt, key, step }) =>
      step === null ||
      !attempts.some(
        (later) =>
          later.number > attempt &&
          (later.resume_step !== null
            ? step > later.resume_step
            : step >= (firstSteps.get(`${later.number} ${key}`) ?? Infinity)),
      ),
  );
}
