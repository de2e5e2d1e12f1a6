// node open.js URL ROUNDS: the main thread's time until the page is usable, in a tab with an empty cache, on a CPU that is
// four times as slow; what was transferred; and every request that left the server.

import { composer, holds, launch, LIST, mainThread, tab, told } from "./driver.js";

const [url, rounds] = [process.argv[2], Number(process.argv[3])];
const USABLE = `document.querySelector("${LIST}") && document.querySelector("textarea:enabled")`;
const SLOWER = 4;
const { browser } = await launch();
const opened = [];
for (let round = 0; round < rounds; round += 1) opened.push(await open());
await browser.close();
told({ rounds: opened });

async function open() {
  const { page, debug } = await tab(browser);
  const away = [];
  let bytes = 0;
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !/^(data|blob):/.test(request.url())) away.push(request.url());
  });
  await debug.send("Network.enable");
  debug.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength));
  await debug.send("Performance.enable", { timeDomain: "threadTicks" });
  await debug.send("Emulation.setCPUThrottlingRate", { rate: SLOWER });
  const before = await mainThread(debug);
  const started = performance.now();
  await page.goto(url);
  await holds(debug, USABLE);
  const [wall, used] = [performance.now() - started, (await mainThread(debug)) - before];
  await page.waitForLoadState("networkidle");
  const settled = (await mainThread(debug)) - before;
  const links = await page.locator(LIST).count();
  await composer(page).fill("It is.");
  await page.context().close();
  return { main_ms: 1000 * used, settled_ms: 1000 * settled, wall_ms: wall, bytes, links, away };
}
