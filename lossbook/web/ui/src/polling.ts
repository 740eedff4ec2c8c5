// Polls: as often as wanted, less often when answers take long, not while the tab is hidden.

import { signal } from "@preact/signals";

import { AnswerError, isLive } from "./api";

/** Whether the server answers: shown at the top of the page. */
export const connection = signal<"live" | "lost" | "still">("live");

/** One slow answer, such as the first, must not keep what is new away for long: so many times the usual pause at the most. */
const LONGEST_REST = 4;

/** A question that is refused is hardly answered otherwise soon; a server that is gone may be back each moment. */
const MOST_REFUSED = 16;
const MOST_LOST = 3;

/** Ask again and again until the returned function is called. A failure is tried again, more and more seldom. */
export function poll(milliseconds: number, ask: (signal: AbortSignal) => Promise<void>): () => void {
  const stop = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let failures = 0;
  let longest = MOST_REFUSED;

  async function once(): Promise<void> {
    if (stop.signal.aborted) return;
    if (document.hidden) {
      document.addEventListener("visibilitychange", () => void once(), { once: true, signal: stop.signal });
      return;
    }
    const begun = performance.now();
    try {
      await ask(stop.signal);
      failures = 0;
      connection.value = isLive() ? "live" : "still";
    } catch (error) {
      if (stop.signal.aborted) return;
      failures += 1;
      longest = error instanceof AnswerError && error.status === 0 ? MOST_LOST : MOST_REFUSED;
      if (error instanceof AnswerError && error.status === 0) connection.value = "lost";
      else if (!(error instanceof AnswerError)) console.error(error);
    }
    if (!isLive() && failures === 0) return;
    const took = performance.now() - begun;
    timer = setTimeout(
      () => void once(),
      Math.max(milliseconds * Math.min(2 ** failures, longest), Math.min(9 * took, LONGEST_REST * milliseconds)),
    );
  }

  void once();
  return () => {
    stop.abort();
    clearTimeout(timer);
  };
}

// -- what goes first ---------------------------------------------------------------------------------------------

let tellFirst: () => void = () => undefined;
const first = new Promise<void>((resolve) => (tellFirst = resolve));

/** Whether what stands beside and below the first chart may take its time: the chart has come, or will not soon. */
export const firstCurveLoaded = signal(false);
void first.then(() => (firstCurveLoaded.value = true));
setTimeout(() => (firstCurveLoaded.value = true), 900);

/** Say that a curve has come: what was put off may be asked for now. */
export function firstCurveHasLoaded(): void {
  tellFirst();
}

/** Wait for the first curve of the page, because a person does; no longer than some milliseconds. */
export function afterFirstCurve(milliseconds: number): Promise<void> {
  return Promise.race([first, new Promise<void>((resolve) => setTimeout(resolve, milliseconds))]);
}
