// Requests the cells of a layer heatmap, polling while the run is running.

import { useEffect, useState } from "preact/hooks";
import { AnswerError, api, type MatrixAnswer } from "../api";
import { poll } from "../polling";
import { chartSettings } from "../settings";

const MOST_CELLS = 1_000_000;

const MOST_COLUMNS = 300;

const FILLED = 0.85; // columns that have rows, of all

/** How many columns have a row of any series. */
function filledColumns({ count, nonfinite, columns }: MatrixAnswer): number {
  const filled = new Uint8Array(columns);
  for (let at = 0; at < count.length; at += 1) if (count[at]! > 0 || nonfinite[at]! > 0) filled[at % columns] = 1;
  return filled.reduce((sum, one) => sum + one, 0);
}

/** The cells of a family, asked for again as long as the run goes on. */
export function useMatrix(
  project: string,
  run: string,
  keys: readonly string[],
  live: boolean,
): { matrix: MatrixAnswer | null; failure: string | null; loading: boolean } {
  const { x, range } = chartSettings.value;
  const columns = Math.max(20, Math.min(MOST_COLUMNS, Math.floor(MOST_CELLS / Math.max(1, keys.length))));
  const question = JSON.stringify([project, run, keys.length, keys[0], x, range, columns]);
  const [found, setFound] = useState<{ question: string; matrix: MatrixAnswer | null; failure: string | null }>({
    question: "",
    matrix: null,
    failure: null,
  });
  useEffect(() => {
    const stop = poll(3000, async (signal) => {
      try {
        const ask = (count: number): Promise<MatrixAnswer> =>
          api.matrix(
            { project, run, keys: [...keys], x, columns: count, start: range?.[0] ?? null, end: range?.[1] ?? null },
            signal,
          );
        let matrix = await ask(columns);
        // More columns than steps were logged would be stripes of nothing.
        const filled = filledColumns(matrix);
        if (filled > 0 && filled < FILLED * columns) matrix = await ask(filled);
        if (signal.aborted) return;
        setFound({ question, matrix, failure: null });
        if (!live) stop();
      } catch (error) {
        if (error instanceof AnswerError && !signal.aborted) {
          const { message } = error;
          setFound((before) => ({
            question,
            matrix: before.question === question ? before.matrix : null,
            failure: message,
          }));
          if (error.status !== 0 && !live) return stop();
        }
        throw error;
      }
    });
    return stop;
  }, [question, live]);
  return { matrix: found.matrix, failure: found.failure, loading: found.question !== question };
}
