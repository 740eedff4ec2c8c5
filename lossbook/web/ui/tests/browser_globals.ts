// What modules of the page touch of a browser as they load: an address, a clock's neighbour, a theme. Nothing is drawn.

const nothing = (): void => undefined;
const storage = new Map<string, string>();

const globals = {
  addEventListener: nothing,
  matchMedia: () => ({ matches: false, addEventListener: nothing }),
  location: { hash: "", href: "http://127.0.0.1/" },
  history: {
    replaceState: (_state: unknown, _title: string, address: string) =>
      Object.assign(globalThis.location, { hash: address }),
    pushState: (_state: unknown, _title: string, address: string) =>
      Object.assign(globalThis.location, { hash: address }),
  },
  localStorage: {
    getItem: (name: string) => storage.get(name) ?? null,
    setItem: (name: string, value: string) => void storage.set(name, value),
  },
  document: { documentElement: { dataset: {} }, hidden: false, addEventListener: nothing },
};

for (const [name, value] of Object.entries(globals)) {
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}
