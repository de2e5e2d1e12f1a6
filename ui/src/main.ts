import { mount } from "svelte";

import App from "./App.svelte";
import "./page.css";
import { carryOn } from "./state/conversation.svelte";

mount(App, { target: document.getElementById("page")! });
carryOn();
