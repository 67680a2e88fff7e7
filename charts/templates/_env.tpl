{{/* The controller's settings, as a map of strings: the names are those of its settings table. Numbers pass int64, for Helm
reads 1000000 from a file as 1e+06. */}}
{{- define "packet-capture.env" -}}
CAPTURE_DIR: {{ .Values.captureDir | quote }}
CRI_SOCKET: {{ printf "%s/%s" (include "packet-capture.criMount" .) (base .Values.cri.socket) | quote }}
NETNS_DIR: {{ .Values.netnsDir | quote }}
ANNOTATION_KEY: {{ .Values.annotationKey | quote }}
{{- /* Whose captureDir it is: with the namespace, for another may have a release of the same name. */}}
RELEASE: {{ printf "%s.%s" .Release.Namespace .Release.Name | quote }}
HTTP_PORT: {{ .Values.metrics.port | int64 | quote }}
METRICS_ENABLED: {{ .Values.metrics.enabled | quote }}
EVENTS_ENABLED: {{ .Values.events.enabled | quote }}
LOG_LEVEL: {{ .Values.logLevel | quote }}
LOG_FORMAT: {{ .Values.logFormat | quote }}
MAX_FILES: {{ .Values.limits.maxFiles | int64 | quote }}
MAX_FILE_SIZE_MB: {{ .Values.limits.maxFileSizeMB | int64 | quote }}
MAX_BUFFER_MB: {{ .Values.limits.maxBufferMB | int64 | quote }}
MAX_CAPTURES: {{ .Values.limits.maxCaptures | int64 | quote }}
DISK_BUDGET_MB: {{ .Values.limits.diskBudgetMB | int64 | quote }}
{{- /* "" is half of the node's, for the controller too. */}}
MAX_CAPTURES_PER_NAMESPACE: {{ with .Values.limits.perNamespace.maxCaptures }}{{ int64 . | quote }}{{ else }}""{{ end }}
DISK_BUDGET_MB_PER_NAMESPACE: {{ with .Values.limits.perNamespace.diskBudgetMB }}{{ int64 . | quote }}{{ else }}""{{ end }}
MIN_FREE_PERCENT: {{ .Values.limits.minFreePercent | int64 | quote }}
MAX_DURATION: {{ .Values.limits.maxDuration | quote }}
NAMESPACES_ALLOW: {{ join "," .Values.namespaces.allow | quote }}
NAMESPACES_DENY: {{ join "," .Values.namespaces.deny | quote }}
ALLOW_HOST_NETWORK_PODS: {{ .Values.allowHostNetworkPods | quote }}
RETENTION_AFTER_POD_DELETION: {{ .Values.retention.afterPodDeletion | quote }}
{{- end }}

{{/* What the commands that read captures need of it. */}}
{{- define "packet-capture.readerEnv" -}}
{{ pick (include "packet-capture.env" . | fromYaml) "ANNOTATION_KEY" "CAPTURE_DIR" "LOG_FORMAT" "LOG_LEVEL" "RELEASE" | toYaml }}
# Its commands refuse other settings than these.
READER: "true"
{{- end }}
