// node open.js URL ROUNDS: the main thread's time until the page is usable, in a tab with an empty cache, on a CPU that is
// four times as slow; the same for next to nothing; what was transferred; and every request that left the server.

import { launchBare } from "./bare.js";
import { composer, holds, launch, LIST, mainThread, told } from "./driver.js";

const [url, rounds] = [process.argv[2], Number(process.argv[3])];
const USABLE = `document.querySelector("${LIST}") && document.querySelector("textarea:enabled")`;
const EMPTY = new URL("livez", url).href; // a few bytes of JSON: what the browser needs for any page
const SLOWER = 4;
const SETTLED_MS = 1500; // then it is quiet

told({ ...(await opened()), ...(await transferred()) });

async function opened() {
  const browser = await launchBare();
  const found = { empty: [], rounds: [] };
  try {
    for (let round = 0; round < rounds; round += 1) {
      found.empty.push(await open(await browser.tab(), EMPTY, "document.body"));
      found.rounds.push(await open(await browser.tab(), url, USABLE));
    }
  } finally {
    await browser.close();
  }
  return found;
}

async function open({ debug, close }, address, usable) {
  await debug.send("Performance.enable", { timeDomain: "threadTicks" });
  await debug.send("Emulation.setCPUThrottlingRate", { rate: SLOWER });
  const started = performance.now();
  await debug.send("Page.navigate", { url: address });
  await holds(debug, usable);
  // All since the process began: with the page the tab goes over to another one, and its beginning counts, too.
  const [wall, used] = [performance.now() - started, await mainThread(debug)];
  await new Promise((resolve) => setTimeout(resolve, SETTLED_MS));
  const settled = await mainThread(debug);
  await close();
  return { main_ms: 1000 * used, settled_ms: 1000 * settled, wall_ms: wall };
}

/** What another tab fetches until it is quiet; a person can type in it. */
async function transferred() {
  const { browser, page, debug } = await launch();
  const away = [];
  let bytes = 0;
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !/^(data|blob):/.test(request.url())) away.push(request.url());
  });
  await debug.send("Network.enable");
  debug.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength));
  await page.goto(url);
  await holds(debug, USABLE);
  await page.waitForLoadState("networkidle");
  const links = await page.locator(LIST).count();
  await composer(page).fill("It is.");
  await browser.close();
  return { bytes, links, away };
}
