/** Panels in the App: they ask Python, and are drawn again when something has changed. */

import { app } from "./app";
import type { Client, Send } from "./client";

const { React } = app;

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

type Asked = Pick<Client, "send" | "subscribe" | "version">;

/** Return what a panel shows, out of `kept`: the App may take a panel down and up again. */
export function usePanel<P extends { client: Asked }>(
  kept: Map<string, P>,
  ask: string,
  make: () => P,
  id = "",
): P {
  const key = `${app.__fosp__.usePanelId()} ${id}`;
  const panel = kept.get(key) ?? make();
  kept.set(key, panel);
  panel.client.send = useSend(ask);
  React.useSyncExternalStore(panel.client.subscribe, () => panel.client.version);
  return panel;
}
