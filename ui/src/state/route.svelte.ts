// Which screen is shown, by the address behind `#`: a link, the back button and a reload lead to the same place.

export type Route =
  | { screen: "new" }
  | { screen: "thread"; id: string }
  | { screen: "models" }
  | { screen: "assistants" }
  | { screen: "server" };

export const NEW: Route = { screen: "new" };

export function parseRoute(hash: string): Route {
  const [screen = "", id = ""] = hash.replace(/^#\/?/, "").split("/").map(decoded);
  if (screen === "c" && id !== "") return { screen: "thread", id };
  if (screen === "models" || screen === "assistants" || screen === "server") return { screen };
  return NEW;
}

/** Anybody may write an address: a part that is no encoding stands for itself. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function linkTo(route: Route): string {
  if (route.screen === "thread") return `#/c/${encodeURIComponent(route.id)}`;
  return route.screen === "new" ? "#/" : `#/${route.screen}`;
}

class Place {
  route = $state.raw<Route>(parseRoute(location.hash));

  constructor() {
    addEventListener("hashchange", () => (this.route = parseRoute(location.hash)));
  }

  /** `replace`: the back button does not lead to where we were. */
  go(route: Route, replace = false): void {
    history[replace ? "replaceState" : "pushState"](null, "", linkTo(route));
    this.route = route;
  }
}

export const place = new Place();
