// Caches the pages of a console's log: requested as they come into view, the least used ones dropped.

import { AnswerError, api } from "../api";
import type { ConsoleLine } from "../types";

const PAGE_LINES = 500;

const PAGES_KEPT = 24;

/** The pages of one rank's log that were asked for, the least used ones forgotten. */
export class ConsolePages {
  private readonly pages = new Map<number, { lines: ConsoleLine[]; total: number }>();
  private readonly asked = new Set<number>();

  constructor(
    private readonly query: { project: string; run: string; rank: number },
    private readonly changed: () => void,
  ) {}

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
