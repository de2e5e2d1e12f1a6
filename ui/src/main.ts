import { mount } from "svelte";

import App from "./App.svelte";
import "./page.css";
import { carryOn } from "./state/conversation.svelte";
import { models } from "./state/models.svelte";
import { place } from "./state/route.svelte";
import { threads } from "./state/threads.svelte";

const LONGEST_WAIT_MS = 200;

/** Until what the first screen shows is there, so that it is laid out once and nothing moves; but nobody waits for long. */
function looked(): Promise<unknown> {
  const looks = Promise.allSettled([threads.refresh(), models.refresh()]);
  return Promise.race([looks, new Promise((resolve) => setTimeout(resolve, LONGEST_WAIT_MS))]);
}

function begin(): void {
  mount(App, { target: document.getElementById("page")! });
  carryOn();
}

if (place.route.screen === "new") void looked().then(begin);
else begin();
