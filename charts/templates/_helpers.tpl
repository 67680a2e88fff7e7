{{/* Names. Release names have at most 53 characters, so nothing is ever cut. */}}

{{/* Of what is not in a namespace: colons keep "a-b" of "c" apart from "a" of "b-c". */}}
{{- define "packet-capture.clusterName" -}}
packet-capture:{{ .Release.Namespace }}:{{ .Release.Name }}
{{- end }}

{{/* The same where a DNS name is asked for: a namespace has no dot, so this is unambiguous too. */}}
{{- define "packet-capture.clusterDnsName" -}}
packet-capture.{{ .Release.Namespace }}.{{ .Release.Name }}
{{- end }}

{{/* Of the pod of helm test. Its name becomes a host name, which takes no dot here. */}}
{{- define "packet-capture.testName" -}}
{{ .Release.Name | replace "." "--" }}-test
{{- end }}

{{- define "packet-capture.readPolicyName" -}}
packet-capture-read.{{ .Release.Namespace }}.{{ .Release.Name }}
{{- end }}

{{- define "packet-capture.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default .Release.Name }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end }}

{{- define "packet-capture.selectorLabels" -}}
app.kubernetes.io/name: packet-capture
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "packet-capture.versionLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "packet-capture.labels" -}}
{{ include "packet-capture.selectorLabels" . }}
{{ include "packet-capture.versionLabels" . }}
{{- end }}

{{- define "packet-capture.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The hostPath of the captures: one for each release, for two may not share it. */}}
{{- define "packet-capture.hostPath" -}}
{{ .Values.storage.hostPath.path | default (printf "/var/lib/packet-capture/%s-%s" .Release.Namespace .Release.Name) }}
{{- end }}

{{/* 25 % above the budget: the controller keeps the budget by itself, and the kubelet, who evicts, must never be first. */}}
{{- define "packet-capture.sizeLimit" -}}
{{ .Values.storage.emptyDir.sizeLimit | default (printf "%dM" (div (add (mul (int64 .Values.limits.diskBudgetMB) 5) 3) 4)) }}
{{- end }}

{{/* The directory of the runtime's socket on the node … */}}
{{- define "packet-capture.criDir" -}}
{{ dir .Values.cri.socket }}
{{- end }}

{{/* … and in the container: the same, but for a socket right in /run, because the container's own /run has to stay (the service
account's token is mounted below it). */}}
{{- define "packet-capture.criMount" -}}
{{- $dir := include "packet-capture.criDir" . -}}
{{- if has $dir (list "/run" "/var/run") -}}
/host/run
{{- else -}}
{{ $dir }}
{{- end -}}
{{- end }}
