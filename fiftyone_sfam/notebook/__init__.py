"""Results as a notebook shows them: HTML without scripts, and Plotly figures."""
