// How the page is built. Promises: relative addresses only, one script and one style sheet with stable names, nothing
// inline (the server's Content-Security-Policy allows scripts of its own alone), and the licences of what is in them.
import { defineConfig } from "vite";

const LOSSBOOK = "http://127.0.0.1:8765"; // `lossbook serve`, which answers the page that `npm run dev` shows

export default defineConfig({
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022",
    sourcemap: false,
    cssCodeSplit: false,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    license: { fileName: "licenses.txt" },
    rolldownOptions: {
      output: {
        codeSplitting: false,
        entryFileNames: "assets/app.js",
        assetFileNames: ({ names }) => (names[0]?.endsWith(".css") ? "assets/app.css" : "assets/[name][extname]"),
      },
    },
  },
  server: { proxy: { "/api": LOSSBOOK } },
});
