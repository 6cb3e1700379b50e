"""Reports: self-contained HTML pages of a run, with charts as inline SVG and pictures as data."""
