/** What the App has on `window`, typed as far as it is used. */

import type * as ReactTypes from "react";

interface PanelEvent {
  operator: string;
  params: Record<string, unknown>;
  callback: (result: { result?: unknown; error?: unknown; errorMessage?: string }) => void;
}

interface Globals {
  React: typeof ReactTypes;
  recoil: { useRecoilValue: (atom: unknown) => unknown };
  __fos__: Record<string, unknown>;
  __fosp__: { usePanelId: () => string };
  __foo__: {
    usePanelEvent: () => (panelId: string, event: PanelEvent) => void;
    registerOperator: (operator: unknown, plugin: string) => void;
    Operator: new (...values: never[]) => object;
    OperatorConfig: new (values: Record<string, unknown>) => object;
  };
  __fop__: {
    registerComponent: (component: Record<string, unknown>) => void;
    PluginComponentType: { Component: unknown };
  };
}

export const app = globalThis as unknown as Globals;
