// Requests the seed bands of one chart when its request changes, and polls while one of their runs is running.

import { AnswerError, api, type BandAnswer } from "../api";
import { poll } from "../polling";
import type { BandsRequest } from "../types";

/** Bands cost as much as all their runs together. */
const AGAIN_MS = 5000;

export class BandSubscription {
  bands: readonly BandAnswer[] = [];
  failure: string | null = null;
  asked = false; // whether there was an answer to what is wanted
  private name = "";
  private stop: (() => void) | null = null;

  constructor(private readonly changed: () => void) {}

  /** `created` of all their runs: bands of a run that was there before under its id are not what is asked for. */
  want(request: BandsRequest | null, created: readonly number[], live: boolean, visible: boolean): void {
    const name = request === null || !visible ? "" : JSON.stringify([request, created, live]);
    if (name === this.name) return;
    this.close();
    this.name = name;
    if (request === null) this.bands = [];
    if (name === "" || request === null) return;
    this.asked = false;
    const stop = poll(AGAIN_MS, async (signal) => {
      try {
        this.bands = await api.bands(request, signal);
        this.failure = null;
      } catch (error) {
        if (signal.aborted || !(error instanceof AnswerError) || error.status === 0) throw error;
        this.failure = error.message;
      }
      this.asked = true;
      if (!live) stop();
      this.changed();
    });
    this.stop = stop;
  }

  close(): void {
    this.stop?.();
    this.stop = null;
    this.name = "";
  }
}
