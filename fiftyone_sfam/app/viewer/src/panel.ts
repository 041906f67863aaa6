/** Panels in the App: they ask Python, and are drawn again when something has changed. */

import { app, React } from "./app";
import type { Client, Send } from "./client";
import type { Session } from "./session";

/** Return what calls a method of the panel in Python, by its address. */
export function useSend(operator: string): Send {
  const panelId = app.__fosp__.usePanelId();
  const trigger = app.__foo__.usePanelEvent();
  return (params, done) => {
    const callback: typeof done = (reply) => {
      done(reply);
      return false; // otherwise the App takes the panel down where a question failed
    };
    trigger(panelId, { operator, params, callback });
  };
}

/** The App may take a panel down and up again: what it shows stays. */
const kept = new Map<string, { client: Client }>();

/** Return what a panel shows, which is made once for each `id`. */
export function usePanel<P extends { client: Client }>(ask: string, make: () => P, id = ""): P {
  const key = `${app.__fosp__.usePanelId()} ${id}`;
  const panel = (kept.get(key) as P | undefined) ?? make();
  kept.set(key, panel);
  panel.client.send = useSend(ask);
  React.useSyncExternalStore(panel.client.subscribe, () => panel.client.version);
  return panel;
}

/** Follow the selection, the open sample and the view of the App; `modal` is whether the panel is
 * beside an open sample. */
export function useFollow(session: Session, ready: boolean, modal: boolean): void {
  const read = (name: string) => app.recoil.useRecoilValue(app.__fos__[name]);
  const selected = [...(read("selectedSamples") as Map<string, unknown>).keys()];
  const open = read("nullableModalSampleId") as string | null;
  const view = JSON.stringify([read("view"), read("filters")]);
  const samples = open && (modal || !selected.length) ? [open] : selected;
  const followed = samples.join(" ");
  const before = React.useRef({ followed: "", view });
  React.useEffect(() => {
    if (!ready) return;
    const last = before.current;
    before.current = { followed, view };
    if (followed !== last.followed) void session.follow(samples);
    const { spec, handed } = session.state;
    if (view !== last.view && spec.in_view && !handed) void session.requeue();
  }, [followed, view, ready]);
}
