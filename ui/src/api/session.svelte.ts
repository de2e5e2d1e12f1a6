// The key that a server with keys asks for. It is kept for this tab, or on this device where its owner says so.

const NAME = "janflask.key";

class Session {
  /** null: no key was given. */
  key = $state<string | null>(remembered());
  /** The server refused us for want of a key, or because of this one. */
  refused = $state(false);

  use(key: string, remember: boolean): void {
    this.forget();
    (remember ? localStorage : sessionStorage).setItem(NAME, key);
    this.key = key;
    this.refused = false;
  }

  forget(): void {
    sessionStorage.removeItem(NAME);
    localStorage.removeItem(NAME);
    this.key = null;
  }
}

function remembered(): string | null {
  try {
    return sessionStorage.getItem(NAME) ?? localStorage.getItem(NAME);
  } catch {
    return null; // the browser keeps nothing for this page, which a server without keys does not need
  }
}

export const session = new Session();
