import { svelte } from "@sveltejs/vite-plugin-svelte";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

const RUNTIME = "svelte";

/** What makes the page open sooner; browsers that don't know it do without. */
const opensSoon: Plugin = {
  name: "opens-soon",
  // No frame is drawn before there is something in it.
  transformIndexHtml: {
    order: "post",
    handler: (html) => html.replace('<script type="module"', '<script type="module" blocking="render"'),
  },
  // Chrome compiles all functions of such a file while it comes, beside the main thread, not one by one as they are called.
  generateBundle: {
    order: "post", // it counts in the first line only
    handler(_, bundle) {
      for (const file of Object.values(bundle)) {
        const isFirst = file.type === "chunk" && (file.isEntry || file.name === RUNTIME);
        if (isFirst) file.code = `//# allFunctionsCalledOnLoad\n${file.code}`;
      }
    },
  },
};

// Relative addresses: the page works below any path that a proxy gives it.
export default defineConfig({
  base: "./",
  plugins: [svelte(), opensSoon],
  build: {
    outDir: "../janflask/page",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // the policy allows no data: scripts
    cssCodeSplit: false, // few kB; a screen that is loaded a second time would come without its own
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    // A file of its own, which is compiled beside ours and stays the same while ours changes.
    rolldownOptions: { output: { codeSplitting: { groups: [{ name: RUNTIME, test: /node_modules\/svelte\// }] } } },
  },
  test: { include: ["src/**/*.test.ts"] },
});
