import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

// Relative addresses: the page works below any path that a proxy gives it.
export default defineConfig({
  base: "./",
  plugins: [svelte()],
  build: {
    outDir: "../janflask/page",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // the policy allows no data: scripts
    cssCodeSplit: false, // few kB; a screen that is loaded a second time would come without its own
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  test: { include: ["src/**/*.test.ts"] },
});
