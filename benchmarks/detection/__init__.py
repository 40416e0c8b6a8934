"""An open benchmark of detectors of abnormal airport-days; see README.md in this folder."""
