"""Every figure that aiplat claims, measured again: ``make bench``, or ``make bench ONLY=name``."""

# The order is that of a person's first day. A figure is a function that returns bench, value, target, ok and detail.
BENCHMARKS = {
    "load_ext": "benchmarks.startup:load_ext",
    "cli_help": "benchmarks.startup:cli_help",
    "first_row": "benchmarks.search:first_row",
    "search_vs_serial": "benchmarks.search:search_vs_serial",
    "search_vs_tune": "benchmarks.search:search_vs_tune",
    "adult_auc": "benchmarks.search:adult_auc",
    "log_a_run": "benchmarks.listing:log_a_run",
    "list_10k_runs": "benchmarks.listing:list_10k_runs",
    "audit_text": "benchmarks.audit:audit_text",
    "audit_codes": "benchmarks.audit:audit_codes",
    "audit_auc": "benchmarks.audit:audit_auc",
    "audit_memory": "benchmarks.audit:audit_memory",
    "audit_report": "benchmarks.audit:audit_report",
    "audit_vs_fairlearn": "benchmarks.audit:audit_vs_fairlearn",
    "audit_vs_bootstrap": "benchmarks.audit:audit_vs_bootstrap",
    "gate_decision": "benchmarks.gate:gate_decision",
    "explain_1000_rows": "benchmarks.explain:explain_1000_rows",
    "explain_forest_vs_shap": "benchmarks.explain:explain_forest_vs_shap",
    "step_overhead": "benchmarks.pipelines:step_overhead",
    "cached_steps": "benchmarks.pipelines:cached_steps",
    "computing_overhead": "benchmarks.pipelines:computing_overhead",
    "thousand_schedules": "benchmarks.schedules:thousand_schedules",
    "clone_to_demo": "benchmarks.demo:clone_to_demo",
}
