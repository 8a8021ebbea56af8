{{- define "nodeprobe.env" -}}
- name: NODEPROBE_NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: NODEPROBE_HOST_IP
  valueFrom:
    fieldRef:
      fieldPath: status.hostIP
- name: NODEPROBE_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: NODEPROBE_POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ include "nodeprobe.resourceAttributes" . | quote }}
# The address of the pod: Prometheus and the kubelet's probes come from outside of it.
- name: NODEPROBE_PROMETHEUS
  value: {{ printf "0.0.0.0:%d" (int .Values.port) | quote }}
{{- with .Values.otlp }}
{{- if .endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ .protocol | quote }}
- name: OTEL_METRIC_EXPORT_INTERVAL
  value: {{ mul 1000 (int .interval) | quote }}
- name: OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE
  value: {{ .temporality | quote }}
{{- if .stallLogs }}
- name: NODEPROBE_STALL_LOGS
  value: "true"
{{- end }}
{{- if .headers.existingSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ .headers.existingSecret }}
      key: {{ .headers.key }}
{{- end }}
{{- else }}
- name: OTEL_METRICS_EXPORTER
  value: none
{{- end }}
{{- end }}
- name: NODEPROBE_STALL_THRESHOLD
  value: {{ .Values.stallThreshold | quote }}
- name: NODEPROBE_MAX_THREADS
  value: {{ .Values.maxThreads | int | quote }}
- name: NODEPROBE_MAX_OVERHEAD
  value: {{ .Values.maxOverhead | quote }}
{{- if not .Values.semconvMetrics }}
- name: NODEPROBE_SEMCONV_METRICS
  value: "off"
{{- end }}
{{- if not .Values.stacks }}
- name: NODEPROBE_NO_STACKS
  value: "true"
{{- end }}
- name: RUST_LOG
  value: {{ .Values.logLevel | quote }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A privileged container cannot forbid escalation: it has everything already. */}}
{{- define "nodeprobe.securityContext" -}}
readOnlyRootFilesystem: true
{{- if .Values.privileged }}
privileged: true
{{- else }}
privileged: false
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
  add:
    {{- concat .Values.capabilities .Values.extraCapabilities | uniq | toYaml | nindent 4 }}
{{- with .Values.seccompProfile }}
seccompProfile:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .appArmorField }}
{{- with .Values.appArmorProfile }}
appArmorProfile:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* How Kubernetes before 1.30 writes it. */}}
{{- define "nodeprobe.appArmorAnnotation" -}}
{{- if eq .type "Localhost" -}}
localhost/{{ .localhostProfile }}
{{- else if eq .type "RuntimeDefault" -}}
runtime/default
{{- else -}}
unconfined
{{- end -}}
{{- end -}}
