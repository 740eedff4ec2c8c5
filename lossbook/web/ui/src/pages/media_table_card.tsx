// A logged table: sorted and paged, with the pictures in its cells.

import { useEffect, useState } from "preact/hooks";
import { api } from "../api";
import { HighlightedText } from "../components/highlighted_text";
import { useQuery } from "../components/use_query";
import { asNumber, number, value as valueText } from "../format";
import type { RunPage } from "../types";
import { type CardProps, eventsAt } from "./media_events";
import { Frame, Picture } from "./media_picture";

const TABLE_PAGE = 50;

function isPicture(cell: unknown): cell is { file: string; width?: number; height?: number; caption?: string } {
  return typeof cell === "object" && cell !== null && "file" in cell && (cell as { kind?: unknown }).kind === "image";
}

function compareCells(one: unknown, other: unknown): number {
  const [first, second] = [asNumber(one), asNumber(other)];
  if (first !== null && second !== null) return first - second;
  if (first !== null || one == null) return one == null && other == null ? 0 : one == null ? 1 : -1;
  if (second !== null || other == null) return other == null ? -1 : 1;
  return valueText(one).localeCompare(valueText(other), "en", { numeric: true });
}

export function TableCard({ page, media, step }: CardProps) {
  const shown = eventsAt(media, step).at(-1);
  const [start, setStart] = useState(0);
  const [order, setOrder] = useState<{ column: number; down: boolean } | null>(null);
  useEffect(() => setStart(0), [shown?.row]);
  const query = {
    project: page.project,
    run: page.row.id,
    rank: shown?.rank ?? 0,
    row: shown?.row ?? 0,
    start,
    limit: TABLE_PAGE,
  };
  const { answer, failure } = useQuery(JSON.stringify(query), (signal) => api.table(query, signal), false);
  const rows =
    answer === null
      ? []
      : order === null
        ? answer.rows
        : [...answer.rows].sort(
            (one, other) => compareCells(one[order.column], other[order.column]) * (order.down ? -1 : 1),
          );
  return (
    <Frame media={media} shown={shown}>
      {answer === null ? (
        <p class={failure === null ? "soft hint" : "broken"} role="status">
          {failure ?? "Asking for the table …"}
        </p>
      ) : (
        <>
          <div class="wide-table">
            <table class="plain cells">
              <thead>
                <tr>
                  {answer.columns.map((column, at) => (
                    <th key={at} aria-sort={order?.column === at ? (order.down ? "descending" : "ascending") : "none"}>
                      <button
                        type="button"
                        class="plain"
                        title="Sort these rows"
                        onClick={() =>
                          setOrder(
                            order?.column !== at
                              ? { column: at, down: false }
                              : order.down
                                ? null
                                : { column: at, down: true },
                          )
                        }
                      >
                        <HighlightedText text={column} />
                        {order?.column === at ? (order.down ? " ↓" : " ↑") : ""}
                      </button>
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {rows.map((row, at) => (
                  <tr key={at}>
                    {row.map((cell, column) => (
                      <Cell key={column} page={page} cell={cell} />
                    ))}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          {answer.count > TABLE_PAGE && (
            <div class="bar">
              <button
                type="button"
                onClick={() => setStart(Math.max(0, start - TABLE_PAGE))}
                disabled={start === 0}
                aria-label="The rows before"
              >
                ‹
              </button>
              <span class="soft" role="status">
                rows {number(start + 1)} to {number(Math.min(answer.count, start + TABLE_PAGE))} of{" "}
                {number(answer.count)}
              </span>
              <button
                type="button"
                onClick={() => setStart(start + TABLE_PAGE)}
                disabled={start + TABLE_PAGE >= answer.count}
                aria-label="The next rows"
              >
                ›
              </button>
            </div>
          )}
          {answer.count === 0 && <p class="soft hint">This table has no rows.</p>}
        </>
      )}
    </Frame>
  );
}

function Cell({ page, cell }: { page: RunPage; cell: unknown }) {
  if (isPicture(cell))
    return (
      <td>
        <Picture page={page} file={cell.file} alt={cell.caption ?? "a picture of the table"} />
      </td>
    );
  const text = typeof cell === "string" ? cell : valueText(cell);
  return (
    <td class={asNumber(cell) !== null ? "number" : ""} title={text.length > 80 ? text.slice(0, 4000) : undefined}>
      <span class="cell">
        <HighlightedText text={text} />
      </span>
    </td>
  );
}
