"""The commands of esmond-etl itself, whose names no plugin may take."""

#: Command -> what it is for. Each is in the module of `esmond_etl.cli` that has its name, as the click command `command`.
COMMANDS = {
    "new": "Write a pipeline file, or a plugin, to start from.",
    "check": "Report every mistake in pipeline files, without connecting.",
    "test": "Send the test datapoints in pipeline files through the transforms.",
    "plan": "Show what a run would read; read nothing but the list.",
    "preview": "Show the first datapoints after the transforms; write nothing.",
    "run": "Move what has not been moved yet.",
    "status": "Show how far each series has come.",
    "verify": "Compare what the source has with what the sinks have.",
    "compare": "Compare two archives, trees of files, or one of each.",
    "report": "Write a page that shows what was delivered.",
    "history": "List the last runs.",
    "compact": "Merge the small files that frequent runs leave.",
    "rejects": "List, send or forget the datapoints that a sink rejected.",
    "reset": "Forget what has been delivered.",
    "rebuild": "Rebuild a lost ledger from what the sinks hold.",
    "get": "Print datapoints of an archive.",
    "list": "Print the metadata of an archive.",
    "plugins": "Explain the installed sources, transforms and sinks.",
    "schema": "Print the JSON Schema of pipeline files, for editors.",
}
