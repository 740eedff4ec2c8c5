// The page's pure functions, in Node.js: no browser, and of its globals only what modules touch as they load.
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/**/*.test.ts"],
    setupFiles: ["tests/browser_globals.ts"],
    maxWorkers: 2,
    // Sentences in local time are tested in one zone.
    env: { TZ: "UTC" },
  },
});
