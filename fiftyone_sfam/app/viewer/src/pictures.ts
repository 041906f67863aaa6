/** Pictures that were loaded, by their URL. */

export interface Loaded {
  image: HTMLImageElement;
  state: "loading" | "ready" | "broken";
  waiting: Set<() => void>;
}

const KEPT = 96;
const pictures = new Map<string, Loaded>();

/** Return a picture; `then` is called when one that is still loading is there or broken. */
export function pictureOf(url: string, then?: () => void): Loaded {
  let loaded = pictures.get(url);
  if (loaded) {
    pictures.delete(url); // and put it at the end: what was used last stays longest
  } else {
    loaded = { image: new Image(), state: "loading", waiting: new Set() };
    loaded.image.src = url;
    loaded.image.decode().then(end(loaded, "ready"), end(loaded, "broken"));
  }
  pictures.set(url, loaded);
  if (then && loaded.state === "loading") loaded.waiting.add(then);
  for (const oldest of pictures.keys()) {
    if (pictures.size <= KEPT) break;
    pictures.delete(oldest);
  }
  return loaded;
}

function end(loaded: Loaded, state: "ready" | "broken") {
  return () => {
    loaded.state = state;
    for (const call of loaded.waiting) call();
    loaded.waiting.clear();
  };
}

/** Load pictures that will be shown soon. */
export function preload(urls: string[]): void {
  for (const url of urls) if (url) pictureOf(url);
}
