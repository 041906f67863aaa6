/** What the App loads: registers the component of the panel of pairs, and its operator. */

import { app } from "./app";
import { registerHandover } from "./handover";
import { Viewer } from "./viewer";

registerHandover();
app.__fop__.registerComponent({
  name: "SfamPairs",
  label: "SFAM pairs",
  component: Viewer,
  type: app.__fop__.PluginComponentType.Component,
  activator: () => true,
});
