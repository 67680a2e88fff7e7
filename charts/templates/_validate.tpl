{{/* What no schema can say (one value against another), and once more what must never pass, because
--skip-schema-validation exists. All faults are reported at once, each in a sentence that names the value.

The schema knows types, keys and ranges, and editors use it; its patterns are short, because Helm prints them. The DaemonSet
includes this check, and without the DaemonSet nothing is installed. The schema allows `global` (Helm hands it to every subchart)
and `enabled` (a parent's `condition` needs it). `required` names what may not be set to null. Conditions in the schema were not done: Helm's words for those help nobody. */}}
{{- define "packet-capture.validate" -}}
{{- $faults := list -}}
{{- $v := .Values -}}

{{- if and .Chart.IsRoot (hasKey $v "enabled") -}}
{{- $faults = append $faults "enabled: only a parent chart may set it, as the condition of its dependency" -}}
{{- end -}}

{{- /* Numbers: name, value, least, most. */}}
{{- $numbers := list
  (list "limits.maxFiles" $v.limits.maxFiles 1 10000)
  (list "limits.maxFileSizeMB" $v.limits.maxFileSizeMB 1 2000)
  (list "limits.maxCaptures" $v.limits.maxCaptures 1 10000)
  (list "limits.diskBudgetMB" $v.limits.diskBudgetMB 2 100000000)
  (list "limits.minFreePercent" $v.limits.minFreePercent 0 99)
  (list "limits.maxBufferMB" $v.limits.maxBufferMB 4 1024)
  (list "metrics.port" $v.metrics.port 1024 65535)
  (list "terminationGracePeriodSeconds" $v.terminationGracePeriodSeconds 15 3600) -}}
{{- range list (list "maxCaptures" 1 10000) (list "diskBudgetMB" 2 100000000) -}}
{{- $value := get $v.limits.perNamespace (index . 0) -}}
{{- if not (or (kindIs "invalid" $value) (and (kindIs "string" $value) (eq $value ""))) -}}
{{- $numbers = append $numbers (list (printf "limits.perNamespace.%s" (index . 0)) $value (index . 1) (index . 2)) -}}
{{- end -}}
{{- end -}}
{{- range $numbers -}}
{{- $name := index . 0 -}}{{- $value := index . 1 -}}{{- $least := index . 2 -}}{{- $most := index . 3 -}}
{{- $number := has (kindOf $value) (list "int" "int64" "float64") -}}
{{- if not (and $number (eq (toString (int64 $value)) (toJson $value)) (ge (int64 $value) (int64 $least)) (le (int64 $value) (int64 $most))) -}}
{{- $faults = append $faults (printf "%s: %s is not a whole number from %d to %d" $name (toJson $value) (int $least) (int $most)) -}}
{{- end -}}
{{- end -}}

{{- /* Texts: name, value, pattern, what it must be. The schema has no patterns for them: Helm would print those instead. */}}
{{- $path := "^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$" -}}
{{- $pathText := "an absolute path such as /a/b (letters, digits, . _ -; no .., no / at its end; not / itself)" -}}
{{- range list
  (list "image.repository" $v.image.repository "^[A-Za-z0-9._-]+(:[0-9]{1,5})?(/[a-z0-9._-]+)*$" "an image without scheme, tag and digest, such as registry.example.com/tools/packet-capture")
  (list "image.tag" ($v.image.tag | default "") "^([A-Za-z0-9_][A-Za-z0-9._-]{0,127})?$" "a tag such as 1.2.3, or empty")
  (list "image.digest" ($v.image.digest | default "") "^(sha256:[0-9a-f]{64})?$" "a digest: sha256: and 64 hexadecimal digits, or empty")
  (list "captureDir" $v.captureDir $path $pathText)
  (list "netnsDir" $v.netnsDir $path $pathText)
  (list "cri.socket" $v.cri.socket "^(/[A-Za-z0-9_-][A-Za-z0-9._-]*){2,}$" "an absolute path such as /run/containerd/containerd.sock, without unix://")
  (list "storage.hostPath.path" (include "packet-capture.hostPath" .) $path $pathText)
  (list "storage.type" $v.storage.type "^(emptyDir|hostPath)$" "emptyDir or hostPath")
  (list "storage.emptyDir.sizeLimit" $v.storage.emptyDir.sizeLimit "^([0-9]{1,15}(k|M|G|T|Ki|Mi|Gi|Ti)?)?$" "a whole quantity such as 3G or 2Gi")
  (list "privilege.mode" $v.privilege.mode "^(capabilities|privileged)$" "capabilities or privileged")
  (list "annotationKey" $v.annotationKey "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" "a DNS name such as tcpdump.antrea.io, in lower case and without a slash")
  (list "limits.maxDuration" $v.limits.maxDuration "^[1-9][0-9]{0,8}[smh]$" "a duration such as 30s, 10m or 24h")
  (list "retention.afterPodDeletion" $v.retention.afterPodDeletion "^(0|[1-9][0-9]{0,8})[smh]$" "a duration such as 0s, 30m or 24h")
  (list "updateStrategy.type" $v.updateStrategy.type "^(RollingUpdate|OnDelete)$" "RollingUpdate or OnDelete") -}}
{{- if not (and (kindIs "string" (index . 1)) (regexMatch (index . 2) (toString (index . 1)))) -}}
{{- $faults = append $faults (printf "%s: %s is not %s" (index . 0) (toJson (index . 1)) (index . 3)) -}}
{{- end -}}
{{- end -}}

{{- range list (list "limits.maxDuration" $v.limits.maxDuration) (list "retention.afterPodDeletion" $v.retention.afterPodDeletion) -}}
{{- $text := toString (index . 1) -}}
{{- if gt (mul (regexFind "^[0-9]+" $text | int64) (get (dict "s" 1 "m" 60 "h" 3600) (regexFind "[smh]$" $text) | default 0)) 31536000 -}}
{{- $faults = append $faults (printf "%s: %q is longer than 8760h, a year" (index . 0) $text) -}}
{{- end -}}
{{- end -}}

{{- range $name := list "allow" "deny" -}}
{{- $value := get $v.namespaces $name -}}
{{- if not (kindIs "slice" $value) -}}
{{- $faults = append $faults (printf "namespaces.%s: %s is not a list of namespaces" $name (toJson $value)) -}}
{{- else -}}
{{- range $value -}}
{{- if not (and (kindIs "string" .) (regexMatch "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$" (toString .))) -}}
{{- $faults = append $faults (printf "namespaces.%s: %s is not the name of a namespace" $name (toJson .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if gt (len (toString $v.annotationKey)) 63 -}}
{{- $faults = append $faults (printf "annotationKey: %q is longer than 63 characters" $v.annotationKey) -}}
{{- end -}}

{{- /* Contradictions are looked for only among values that are sound by themselves. */}}
{{- if not $faults -}}
{{- $faults = include "packet-capture.contradictions" . | fromYamlArray -}}
{{- end -}}
{{- if $faults -}}
{{- fail (printf "\n\nThese values of packet-capture cannot be used:\n- %s\n" (join "\n- " $faults)) -}}
{{- end -}}
{{- end }}

{{/* A YAML list of sentences. */}}
{{- define "packet-capture.contradictions" -}}
{{- $faults := list -}}
{{- $v := .Values -}}
{{- $criDir := include "packet-capture.criDir" . -}}
{{- $criMount := include "packet-capture.criMount" . -}}

{{- if and $v.allowHostNetworkPods (not $v.hostNetwork) -}}
{{- $faults = append $faults "allowHostNetworkPods: true needs hostNetwork: true, for such pods have no network namespace of their own to enter" -}}
{{- end -}}

{{- range $v.namespaces.deny -}}
{{- if has . $v.namespaces.allow -}}
{{- $faults = append $faults (printf "namespaces.deny: %s is also in namespaces.allow; a namespace must be in one of them" .) -}}
{{- end -}}
{{- end -}}

{{- if and (eq $v.storage.type "emptyDir") $v.storage.emptyDir.sizeLimit -}}
{{- $bytes := include "packet-capture.bytes" $v.storage.emptyDir.sizeLimit | int64 -}}
{{- if lt $bytes (mul (int64 $v.limits.diskBudgetMB) 1000000) -}}
{{- $faults = append $faults (printf "storage.emptyDir.sizeLimit: %q is less than limits.diskBudgetMB (%d MB): the kubelet would evict the controller before its budget is used; give it 25 %% more than the budget, or leave it empty" $v.storage.emptyDir.sizeLimit (int64 $v.limits.diskBudgetMB)) -}}
{{- end -}}
{{- end -}}

{{- /* Directories that the image or the kubelet fills: nothing may be mounted over them … */}}
{{- $image := list "/bin" "/dev" "/etc" "/lib" "/lib64" "/proc" "/run" "/sbin" "/sys" "/usr" "/var/run" -}}
{{- range $mount := list (list "cri.socket" $criMount) (list "netnsDir" $v.netnsDir) -}}
{{- range $dir := $image -}}
{{- if hasPrefix (printf "%s/" (index $mount 1)) (printf "%s/" $dir) -}}
{{- $faults = append $faults (printf "%s: %s would be mounted over %s of the container" (index $mount 0) (index $mount 1) $dir) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq $criMount $v.netnsDir -}}
{{- $faults = append $faults (printf "netnsDir: %s is also the directory of cri.socket; they have to differ" $v.netnsDir) -}}
{{- end -}}

{{- /* … and captures, which are written and deleted, belong neither over nor below any of them. */}}
{{- range $dir := concat $image (list "/host/run" $criMount $v.netnsDir) | uniq -}}
{{- if or (hasPrefix (printf "%s/" $v.captureDir) (printf "%s/" $dir)) (hasPrefix (printf "%s/" $dir) (printf "%s/" $v.captureDir)) -}}
{{- $faults = append $faults (printf "captureDir: %s and %s of the container lie in each other; use a directory of its own such as /captures" $v.captureDir $dir) -}}
{{- end -}}
{{- end -}}

{{- if eq $v.storage.type "hostPath" -}}
{{- $path := include "packet-capture.hostPath" . -}}
{{- if has $path (list "/bin" "/boot" "/dev" "/etc" "/home" "/lib" "/lib64" "/mnt" "/opt" "/proc" "/root" "/run" "/sbin" "/srv" "/sys" "/tmp" "/usr" "/var" "/var/lib" "/var/log" "/var/run" "/var/tmp" "/var/lib/kubelet" "/var/lib/containerd") -}}
{{- $faults = append $faults (printf "storage.hostPath.path: %s is a directory of the node's own; use one for this release alone, such as /var/lib/packet-capture/%s-%s" $path $.Release.Namespace $.Release.Name) -}}
{{- end -}}
{{- end -}}

{{- range $item := list (list "podMonitor" $v.metrics.podMonitor.enabled) (list "dashboard" $v.metrics.dashboard.enabled) -}}
{{- if and (index $item 1) (not $v.metrics.enabled) -}}
{{- $faults = append $faults (printf "metrics.%s.enabled: true needs metrics.enabled: true" (index $item 0)) -}}
{{- end -}}
{{- end -}}

{{- if $v.readPolicy.subjects -}}
{{- range $item := list (list "readPolicy.enabled" $v.readPolicy.enabled "or anyone named could run anything in the controller's pods") (list "rbac.create" $v.rbac.create "because a Role is made for them") -}}
{{- if not (index $item 1) -}}
{{- $faults = append $faults (printf "readPolicy.subjects needs %s: true, %s" (index $item 0) (index $item 2)) -}}
{{- end -}}
{{- end -}}
{{- range $v.readPolicy.subjects -}}
{{- if ne (eq .kind "ServiceAccount") (not (empty .namespace)) -}}
{{- $faults = append $faults (printf "readPolicy.subjects: %s %q %s" .kind .name (ternary "needs its namespace" "has no namespace" (eq .kind "ServiceAccount"))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- $own := concat (list "NODE_NAME" "POD_NAME") (include "packet-capture.env" . | fromYaml | keys) -}}
{{- range $v.extraEnv -}}
{{- if has .name $own -}}
{{- $faults = append $faults (printf "extraEnv: %s is set by the chart; change the value it comes from" .name) -}}
{{- end -}}
{{- end -}}

{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" -}}
{{- if hasKey ($v.podLabels | default dict) $label -}}
{{- $faults = append $faults (printf "podLabels: %s is the chart's own, the DaemonSet finds its pods by it" $label) -}}
{{- end -}}
{{- end -}}

{{- $os := index ($v.nodeSelector | default dict) "kubernetes.io/os" -}}
{{- if and $os (ne $os "linux") -}}
{{- $faults = append $faults (printf "nodeSelector: kubernetes.io/os is %q, but the controller runs on linux only" $os) -}}
{{- end -}}

{{- $faults | toYaml -}}
{{- end }}

{{/* A whole Kubernetes quantity in bytes. */}}
{{- define "packet-capture.bytes" -}}
{{- $factors := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mul (regexFind "^[0-9]+" . | int64) (get $factors (regexFind "[A-Za-z]*$" .)) -}}
{{- end }}
