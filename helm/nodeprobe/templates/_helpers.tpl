{{- define "nodeprobe.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for `-` and the name of a dashboard behind it. */}}
{{- define "nodeprobe.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "nodeprobe.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "nodeprobe.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "nodeprobe.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{- define "nodeprobe.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "nodeprobe.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* What never changes: a DaemonSet's selector cannot be upgraded. */}}
{{- define "nodeprobe.selector" -}}
app.kubernetes.io/name: {{ include "nodeprobe.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "nodeprobe.labels" -}}
{{ include "nodeprobe.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "nodeprobe.image" -}}
{{- with .Values.image -}}
{{- $name := ternary (printf "%s/%s" .registry .repository) .repository (ne .registry "") -}}
{{- if .digest -}}
{{- printf "%s@%s" $name .digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Values are percent-encoded, as OpenTelemetry asks for; $(...) is filled in by the kubelet. */}}
{{- define "nodeprobe.resourceAttributes" -}}
{{- $all := list "k8s.node.name=$(NODEPROBE_NODE_NAME)" "host.name=$(NODEPROBE_NODE_NAME)" -}}
{{- $all = append $all "k8s.namespace.name=$(NODEPROBE_POD_NAMESPACE)" -}}
{{- $all = append $all "k8s.pod.name=$(NODEPROBE_POD_NAME)" -}}
{{- with .Values.clusterName -}}
{{- $all = append $all (printf "k8s.cluster.name=%s" (urlquery . | replace "+" "%20")) -}}
{{- end -}}
{{- range $key, $value := .Values.resourceAttributes -}}
{{- $all = append $all (printf "%s=%s" $key (urlquery $value | replace "+" "%20")) -}}
{{- end -}}
{{- join "," $all -}}
{{- end -}}

{{/* Of things without a namespace: two releases of one name in two namespaces must not meet. */}}
{{- define "nodeprobe.clusterName" -}}
{{- printf "%s-%s" (include "nodeprobe.namespace" .) (include "nodeprobe.fullname" .) -}}
{{- end -}}
