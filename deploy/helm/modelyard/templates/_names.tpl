{{- define "modelyard.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "modelyard.labels" -}}
app.kubernetes.io/part-of: modelyard
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Arguments: root, component. What selects its pods, for ever. */}}
{{- define "modelyard.selector" -}}
app.kubernetes.io/name: modelyard
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Arguments: root, component, image (empty: the default). */}}
{{- define "modelyard.image" -}}
{{- if .image }}{{ .image }}{{ else }}{{ printf "%s/modelyard-%s:%s" (.root.Values.image.registry | trimSuffix "/") .component (.root.Values.image.tag | default .root.Chart.AppVersion) }}{{ end }}
{{- end }}

{{- define "modelyard.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "modelyard.databaseSecret" -}}
{{ .Values.database.existingSecret | default (printf "%s-database" (include "modelyard.fullname" .)) }}
{{- end }}
{{- define "modelyard.artifactsSecret" -}}
{{ .Values.artifacts.existingSecret | default (printf "%s-artifacts" (include "modelyard.fullname" .)) }}
{{- end }}
{{- define "modelyard.passportSecret" -}}
{{ .Values.passport.existingSecret | default (printf "%s-passport" (include "modelyard.fullname" .)) }}
{{- end }}
{{- define "modelyard.fleetSecret" -}}
{{ .Values.fleet.existingSecret | default (printf "%s-fleet" (include "modelyard.fullname" .)) }}
{{- end }}
{{- define "modelyard.agentSecret" -}}
{{ .Values.agentToken.existingSecret | default (printf "%s-agent" (include "modelyard.fullname" .)) }}
{{- end }}
{{- define "modelyard.tokensSecret" -}}
{{ .Values.auth.tokensSecret | default (printf "%s-tokens" (include "modelyard.fullname" .)) }}
{{- end }}

{{/* Services that have a process and a database. */}}
{{- define "modelyard.services" -}}
dataset trainer exporter evaluator serving pipeline
{{- end }}

{{/* What a container of ours may do: nothing more. */}}
{{- define "modelyard.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}
{{- define "modelyard.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{/* A value that is made once: of the Secret that is there, else new. Arguments: root, secret, key, new. */}}
{{- define "modelyard.kept" -}}
{{- $found := lookup "v1" "Secret" .root.Release.Namespace .secret }}
{{- if and $found (hasKey ($found.data | default dict) .key) }}{{ index $found.data .key }}{{ else }}{{ .new | b64enc }}{{ end }}
{{- end }}

{{/* What an Ingress tells its controller: the port behind it speaks TLS or not, bodies are large, streams are long.
     Arguments: root, protocol (GRPC or HTTP), secret (of its certificate), annotations (the user's, which win). */}}
{{- define "modelyard.ingressAnnotations" -}}
{{- $prefix := "nginx.ingress.kubernetes.io/" }}
{{- $ours := dict }}
{{- if eq .root.Values.ingress.controller "nginx" }}
{{- $seconds := .root.Values.gateway.idleSeconds | toString }}
{{- $ours = dict (print $prefix "backend-protocol") (print .protocol (.root.Values.tls.enabled | ternary "S" "")) (print $prefix "proxy-body-size") "0" (print $prefix "proxy-read-timeout") $seconds (print $prefix "proxy-send-timeout") $seconds }}
{{- else if and .secret (eq .root.Values.ingress.controller "traefik") }}
{{- /* An Ingress with a certificate is one without TLS to Traefik, unless its port has it for all. */}}
{{- $ours = dict "traefik.ingress.kubernetes.io/router.tls" "true" }}
{{- end }}
{{- merge (dict) (.annotations | default dict) $ours | toYaml }}
{{- end }}

{{/* What Traefik reads of a Service: how it speaks, and how that is verified. Arguments: root, component, routed (whether an Ingress leads to it),
     plain (its scheme without TLS), annotations (the user's, which win). */}}
{{- define "modelyard.serviceAnnotations" -}}
{{- $prefix := "traefik.ingress.kubernetes.io/service." }}
{{- $ours := dict }}
{{- if and .routed (eq .root.Values.ingress.controller "traefik") }}
{{- $_ := set $ours (print $prefix "serversscheme") (.root.Values.tls.enabled | ternary "https" .plain) }}
{{- if .root.Values.tls.enabled }}
{{- $_ := set $ours (print $prefix "serverstransport") (printf "%s-%s-%s@kubernetescrd" .root.Release.Namespace (include "modelyard.fullname" .root) .component) }}
{{- end }}
{{- end }}
{{- merge (dict) (.annotations | default dict) $ours | toYaml }}
{{- end }}

{{/* Traefik's way to a Service with TLS. Arguments: root, component, secret (brought: its certificate is of a public name), host. */}}
{{- define "modelyard.serversTransport" -}}
{{- if and .root.Values.tls.enabled (eq .root.Values.ingress.controller "traefik") }}
{{- $service := printf "%s-%s" (include "modelyard.fullname" .root) .component }}
---
apiVersion: traefik.io/v1alpha1
kind: ServersTransport
metadata:
  name: {{ $service }}
  labels: {{- include "modelyard.labels" .root | nindent 4 }}
spec:
  {{- if .secret }}
  serverName: {{ .host }}
  {{- else }}
  serverName: {{ $service }}
  rootCAs: [{ secret: {{ $service }}-tls }]
  {{- end }}
{{- end }}
{{- end }}
