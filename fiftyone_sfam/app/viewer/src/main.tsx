/** What the App loads: registers the components of our panels, and their operator. */

import { app } from "./app";
import { SfamFindings } from "./findings";
import { registerHandover } from "./handover";
import { Viewer } from "./viewer";

const type = app.__fop__.PluginComponentType.Component;
const pairs = { name: "SfamPairs", label: "SFAM pairs", component: Viewer, type };
const findings = { name: "SfamFindings", label: "SFAM findings", component: SfamFindings, type };
for (const component of [pairs, findings])
  app.__fop__.registerComponent({ ...component, activator: () => true });
registerHandover();
