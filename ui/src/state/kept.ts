// What this device keeps: drafts, questions in line, choices. Where the browser keeps nothing it lasts as long as the tab.

const PREFIX = "janflask.";
const unkept = new Map<string, string>();

/** null: nothing is kept under this name, or nothing that can be read. */
export function kept<T>(name: string): T | null {
  const text = unkept.get(name) ?? read(name);
  if (text === null) return null;
  try {
    return JSON.parse(text) as T;
  } catch {
    return null;
  }
}

/** null forgets. */
export function keep(name: string, value: unknown): void {
  unkept.delete(name);
  try {
    if (value === null) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    unkept.set(name, JSON.stringify(value)); // full, or closed to this page
  }
}

/** The names under which something is kept, of those that begin so. */
export function keptNames(start: string): string[] {
  try {
    return Object.keys(localStorage).flatMap((name) => (name.startsWith(PREFIX + start) ? name.slice(PREFIX.length) : []));
  } catch {
    return [];
  }
}

/** Calls `heard` with the name of what another tab keeps anew or forgets; null: with all of them. */
export function onKept(heard: (name: string | null) => void): void {
  addEventListener("storage", ({ key, storageArea }) => {
    if (key === null) heard(null);
    else if (key.startsWith(PREFIX) && storageArea === localStorage) heard(key.slice(PREFIX.length));
  });
}

function read(name: string): string | null {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null;
  }
}
