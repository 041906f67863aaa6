"""From heatmaps to findings: how good retrieval is, and where it fails."""
