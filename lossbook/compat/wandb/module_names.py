"""The modules of W&B's package: what may be imported below `wandb`, and what is a module rather than a function.

The names are those of wandb 0.31 and of earlier versions that public code still imports.
"""

from __future__ import annotations

#: A package and the modules in it; the first line is the package itself.
_TABLE = """
wandb: agents analytics api apis automations beta catboost cli data_types docker env errors fastai filesync gym history
wandb: integration integrations jupyter keras lightgbm magic old plot plots proto run_manager sacred sagemaker_auth sandbox
wandb: sb3 sdk sklearn summary sweeps tensorboard tensorflow trigger util vendor viz wandb_agent wandb_config
wandb: wandb_controller wandb_keras wandb_lib wandb_run wandb_sdk wandb_torch xgboost
agents: pyagent
analytics: opentelemetry sentry
analytics.opentelemetry: opentelemetry_proxy
apis: attrs importers internal normalize paginator public reports workspaces
apis.importers: base mlflow wandb
apis.public: api artifacts automations console_logs const files history integrations jobs organizations projects
apis.public: query_generator registries reports runhistory runs service_api summary sweeps teams users utils
apis.public.registries: registries_search registry
apis.public.runhistory: downloads
apis.reports: blocks panels report v1 v2
automations: actions automations events integrations scopes
beta: workflows
cli: beta beta_core beta_sandbox beta_sync clean cli leet
docker: names
errors: ansi errors links term util warnings
filesync: dir_watcher stats step_checksum step_prepare step_upload upload_job
integration: catboost cohere diffusers dspy fastai gym huggingface keras kfp langchain lightgbm lightning metaflow openai
integration: prodigy sacred sagemaker sb3 sklearn tensorboard tensorflow torch ultralytics weave xgboost yolov8
integration.catboost: catboost
integration.diffusers: autologger pipeline_resolver resolvers
integration.diffusers.resolvers: multimodal utils
integration.huggingface: huggingface resolver
integration.keras: callbacks keras
integration.keras.callbacks: metrics_logger model_checkpoint observer tables_builder
integration.kfp: helpers kfp_patch wandb_log_v1 wandb_log_v2 wandb_logging
integration.langchain: wandb_tracer
integration.lightgbm: lightgbm
integration.lightning: fabric
integration.lightning.fabric: logger
integration.metaflow: metaflow
integration.openai: fine_tuning openai resolver
integration.prodigy: prodigy
integration.sagemaker: auth config files resources
integration.sb3: sb3
integration.sklearn: calculate plot utils
integration.tensorboard: log monkeypatch
integration.tensorflow: estimator_hook
integration.torch: wandb_torch
integration.ultralytics: callback
integration.weave: interface media_adapters weave
integration.xgboost: xgboost
integration.yolov8: yolov8
old: core settings summary
plot: bar confusion_matrix custom_chart histogram line line_series pr_curve roc_curve scatter utils viz
plots: explain_text heatmap named_entity part_of_speech plot_definitions precision_recall roc utils
proto: wandb_api_pb2 wandb_base_pb2 wandb_internal_pb2 wandb_otel_pb2 wandb_server_pb2 wandb_settings_pb2
proto: wandb_sweep_scheduler_pb2 wandb_sync_pb2 wandb_telemetry_pb2
sdk: artifacts backend data_types integration_utils interface internal launch lib mailbox service sweeps verify
sdk: wandb_alerts wandb_artifacts wandb_config wandb_helper wandb_init wandb_internal_pb2 wandb_login wandb_manager
sdk: wandb_metric wandb_require wandb_run wandb_settings wandb_setup wandb_summary wandb_sweep wandb_watch
sdk.artifacts: artifact artifact_cache artifact_download_logger artifact_file_cache artifact_instance_cache
sdk.artifacts: artifact_manifest artifact_manifest_entry artifact_manifests artifact_saver artifact_state artifact_ttl
sdk.artifacts: exceptions public_artifact staging storage_handler storage_handlers storage_layout storage_policies
sdk.artifacts: storage_policy
sdk.artifacts.artifact_manifests: artifact_manifest_v1
sdk.artifacts.storage_handlers: azure_handler gcs_handler http_handler local_file_handler multi_handler s3_handler
sdk.artifacts.storage_handlers: tracking_handler wb_artifact_handler wb_local_artifact_handler
sdk.artifacts.storage_policies: register wandb_storage_policy
sdk.backend: backend
sdk.data_types: audio base_types bokeh eval_table graph helper_types histogram html image molecule object_3d plotly
sdk.data_types: saved_model table table_decorators trace_tree utils video
sdk.data_types.base_types: json_metadata media wb_value
sdk.data_types.eval_table: eval_table
sdk.data_types.helper_types: bounding_boxes_2d classes image_mask
sdk.integration_utils: auto_logging data_logging
sdk.interface: artifacts history_value interface interface_queue interface_shared interface_sock summary_record
sdk.internal: datastore file_stream handler incremental_table_util internal internal_api job_builder profiler sender
sdk.internal: settings_static system update
sdk.launch: agent api builder create_job errors git_reference launch launch_add loader runner sweeps utils
sdk.launch: wandb_reference
sdk.launch.agent: agent config job_status_tracker run_queue_item_file_saver
sdk.launch.builder: abstract build context_manager docker_builder kaniko_builder noop
sdk.launch.runner: abstract kubernetes_monitor kubernetes_runner local_container local_process sagemaker_runner
sdk.launch.runner: vertex_runner
sdk.launch.sweeps: scheduler scheduler_sweep utils
sdk.lib: apikey asyncio_compat asyncio_manager capped_dict config_util console_capture deprecate deprecated_api
sdk.lib: deprecation disabled exit_hooks filenames filesystem fsm git gitlib gql_request handler_util hashutil identity
sdk.lib: import_hooks interrupt ipython json_util lazyloader logger_capture mailbox module noop_run paths preinit printer
sdk.lib: printer_asyncio progress proto_util ratelimit redirect retry run_messages run_moment run_stopping runid server
sdk.lib: service settings_file sparkline sock_client telemetry timed_input timer tracelog urls wb_logging wbauth wburls
sdk.lib.service: service_connection
sdk.lib.wbauth: auth authenticate host_url prompt saas settings validation wbnetrc
sdk.mailbox: mailbox mailbox_handle response_handle wait_with_progress
sdk.service: service
sdk.sweeps: errors run_state scheduler sweep_info
sdk.sweeps.scheduler: ax client ipc optimizer optuna wandb
sdk.verify: verify
sweeps: base bayes_search config grid_search hyperband_stopping params random_search
vendor: gql pygments watchdog
"""

#: Packages that are another's under an older name.
RENAMED = {
    "catboost": "integration.catboost",
    "fastai": "integration.fastai",
    "gym": "integration.gym",
    "integrations": "integration",
    "keras": "integration.keras",
    "lightgbm": "integration.lightgbm",
    "sacred": "integration.sacred",
    "sb3": "integration.sb3",
    "sklearn": "integration.sklearn",
    "tensorboard": "integration.tensorboard",
    "tensorflow": "integration.tensorflow",
    "wandb_keras": "integration.keras",
    "wandb_lib": "sdk.lib",
    "wandb_run": "sdk.wandb_run",
    "wandb_config": "sdk.wandb_config",
    "wandb_sdk": "sdk",
    "wandb_torch": "integration.torch",
    "xgboost": "integration.xgboost",
}


def _read(table: str) -> frozenset[str]:
    found: set[str] = set()
    for line in table.split("\n"):
        package, _, names = line.partition(": ")
        found.update(name if package == "wandb" else f"{package}.{name}" for name in names.split())
    return frozenset(found)


_MODULES = _read(_TABLE)
#: The packages and modules directly below `wandb`.
TOP = frozenset(name for name in _MODULES if "." not in name)


def current_name(module: str) -> str:
    """The name that wandb 0.31 has for a module below it, "integration.keras" for "keras"."""
    for old, new in RENAMED.items():
        if module == old or module.startswith(f"{old}."):
            return new + module[len(old) :]
    return module


def is_module(module: str) -> bool:
    """Whether W&B has, or had, a module of this name below it: "sdk.lib.runid"."""
    return module in _MODULES or current_name(module) in _MODULES
