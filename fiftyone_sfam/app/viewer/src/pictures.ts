/** Pictures that were loaded, by their URL. */

type State = "loading" | "ready" | "broken";
type Loaded = { image: HTMLImageElement; state: State; waiting: Set<() => void> };

const KEPT = 96;
const pictures = new Map<string, Loaded>();

/** Return a picture, broken without a URL; `then` is called when one that is still loading is there or broken. */
export function pictureOf(url: string, then?: () => void): Loaded {
  const loaded = pictures.get(url) ?? load(url);
  pictures.delete(url); // and put it at the end: what was used last stays longest
  pictures.set(url, loaded);
  if (then && loaded.state === "loading") loaded.waiting.add(then);
  const [oldest = url] = pictures.keys();
  if (pictures.size > KEPT) pictures.delete(oldest);
  return loaded;
}

function load(url: string): Loaded {
  const loaded: Loaded = { image: new Image(), state: "loading", waiting: new Set() };
  const end = (state: State) => () => {
    loaded.state = state;
    for (const call of loaded.waiting) call();
    loaded.waiting.clear();
  };
  loaded.image.src = url;
  loaded.image.decode().then(end("ready"), end("broken"));
  return loaded;
}

/** Load pictures that will be shown soon. */
export function preload(urls: string[]): void {
  for (const url of urls) if (url) pictureOf(url);
}
