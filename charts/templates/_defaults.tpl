{{/* Puts in what the values of an earlier chart lack, as in values.yaml (tests/chart/upgrade_test.ts): "helm upgrade --reuse-values"
takes those in the place of this chart's defaults. What is there stays, also where it is empty: merge would replace it. */}}
{{- define "packet-capture.defaults" -}}
{{- $v := .Values -}}
{{- $reader := dict "resources" (dict "requests" (dict "cpu" "10m" "memory" "16Mi") "limits" (dict "cpu" "500m" "memory" "256Mi")) -}}
{{- range list
  (list $v "namespaces" (dict "allow" list "deny" list))
  (list $v "readPolicy" dict)
  (list $v "reader" $reader)
  (list $v.limits "perNamespace" dict)
  (list $v.limits "maxBufferMB" 32) -}}
{{- if not (hasKey (index . 0) (index . 1)) }}{{ $_ := set (index . 0) (index . 1) (index . 2) }}{{ end -}}
{{- end -}}
{{- if not (hasKey $v.readPolicy "enabled") }}{{ $_ := set $v.readPolicy "enabled" true }}{{ end -}}
{{- end }}
