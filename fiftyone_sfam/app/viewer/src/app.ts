/** What the App has on `window`, typed as far as it is used. */

import type * as ReactTypes from "react";
import type { Reply } from "./client";

interface PanelEvent {
  operator: string;
  params: Record<string, unknown>;
  callback: (reply: Reply) => unknown;
}

interface Globals {
  React: typeof ReactTypes;
  recoil: { useRecoilValue: (atom: unknown) => unknown };
  __fos__: Record<string, unknown>;
  __fosp__: { usePanelId: () => string };
  __foo__: {
    usePanelEvent: () => (panelId: string, event: PanelEvent) => void;
    registerOperator: (operator: unknown, plugin: string) => void;
    Operator: new (plugin: string) => object;
    OperatorConfig: new (values: Record<string, unknown>) => object;
  };
  __fop__: {
    registerComponent: (component: Record<string, unknown>) => void;
    PluginComponentType: { Component: unknown };
  };
}

export const app = globalThis as unknown as Globals;
export const { React } = app;
