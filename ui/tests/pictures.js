// Takes the pictures of docs/page/: `node tests/pictures.js`. To be looked at; no test compares them.

import path from "node:path";

import { launch, open } from "./browser.js";
import { REAL, ROOT, Server, until } from "./server.js";

const FOLDER = path.join(ROOT, "docs/page");
const SIZE = { width: 1000, height: 640 };
const TITLES = [
  ...["Glass and sand", "How bridges stand", "A week in Lisbon", "A pattern for dates", "Birthday poem", "Sourdough"],
  ...["Letter to the tax office", "A loop in Bash", "Lifetimes in Rust", "A name for a cat", "Tides"],
];
const THOUGHT = "They ask about colour. Scattering explains it: say how it depends on the wavelength, and give numbers.";
const SAID = `Sunlight has all colours. On its way through the air **short waves are scattered more** than long ones, by \
$\\lambda^{-4}$:

$$I \\propto \\frac{1}{\\lambda^4}$$

| colour | wavelength | scattered |
|---|---|---|
| blue | 450 nm | 4.4 times |
| red | 650 nm | once |

\`\`\`python
def scattered(wavelength: float, other: float) -> float:
    """How much more of one wave is scattered than of another."""
    return (other / wavelength) ** 4
\`\`\`
`;

async function picture(page, name) {
  await page.screenshot({ path: path.join(FOLDER, `${name}.png`) });
}

async function talk(page, server) {
  server.script.says({ reasoning_content: THOUGHT }, 1200, ...SAID.split(/(?<= )/));
  await page.getByRole("combobox", { name: /model/i }).first().selectOption("scripted");
  await page.getByRole("textbox", { name: "Message" }).fill("Why is the sky blue?");
  await page.keyboard.press("Enter");
  await page.getByText("tokens/s").first().waitFor();
  await page.mouse.move(SIZE.width / 2, SIZE.height / 2);
}

/** Answers under way, so that there is something to see. */
async function busy(server) {
  const prompt = "A long story about a lighthouse, a storm and a small boat.";
  const body = { model: REAL, prompt, max_tokens: 700, ignore_eos: true };
  return Promise.all([1, 2, 3].map((seed) => server.api("POST", "completions", { ...body, seed })));
}

async function all(browser, server, colorScheme) {
  const page = await open(browser, server, "", { colorScheme, viewport: SIZE, deviceScaleFactor: 1 });
  await page.getByRole("textbox", { name: "Message" }).waitFor();
  await talk(page, server);
  await picture(page, `conversation-${colorScheme}`);
  const answers = busy(server);
  await page.getByRole("link", { name: "Server" }).click();
  await page.getByRole("heading", { name: "Server", level: 1 }).waitFor();
  await page.waitForTimeout(5000);
  await picture(page, `server-${colorScheme}`);
  await page.getByRole("link", { name: "Models" }).click();
  await page.getByRole("heading", { name: "Models", level: 1 }).waitFor();
  await until(async () => (await page.getByText("running").count()) > 0, "a model that runs");
  await picture(page, `models-${colorScheme}`);
  await answers;
  await page.context().close();
}

const [browser, server] = await Promise.all([launch(), Server.start()]);
try {
  for (const title of TITLES) await server.thread(title, [["user", title]]);
  for (const scheme of ["light", "dark"]) await all(browser, server, scheme);
} finally {
  await browser.close();
  await server.end();
}
