"""A CSV backend for tracking-core: `TRACKING_BACKEND=csv:./out`."""

import tracking_core as tracking


@tracking.hookimpl
def tracking_adapter():
    kinds = {"scalars", "images", "histograms", "artifacts", "resume"}
    return tracking.AdapterInfo(name="csv", api_version=1, capabilities=kinds, options={}, description="CSV files")


@tracking.hookimpl
def open_tracker(target, run):
    from tracking_csv.tracker import CsvTracker

    return CsvTracker(target.path or "csv_runs", run.id)
