{{/* The environment of a service. Arguments: root, component. */}}
{{- define "modelyard.environment" -}}
{{- $root := .root }}
{{- $name := include "modelyard.fullname" $root }}
envFrom:
  - configMapRef: { name: {{ $name }}-settings }
  - secretRef: { name: {{ include "modelyard.artifactsSecret" $root }} }
env:
  - name: MODELYARD_DATABASE_URL
    valueFrom: { secretKeyRef: { name: {{ include "modelyard.databaseSecret" $root }}, key: MODELYARD_DATABASE_URL } }
  - { name: MODELYARD_POD_NAME, valueFrom: { fieldRef: { fieldPath: metadata.name } } }
  - { name: MODELYARD_POD_NAMESPACE, valueFrom: { fieldRef: { fieldPath: metadata.namespace } } }
{{- if eq .component "exporter" }}
  - name: MODELYARD_AGENT_TOKEN
    valueFrom: { secretKeyRef: { name: {{ include "modelyard.agentSecret" $root }}, key: MODELYARD_AGENT_TOKEN } }
{{- end }}
{{- if eq .component "evaluator" }}
  - { name: MODELYARD_PASSPORT_SIGNING_KEY, value: /etc/modelyard/passport/passport.pem }
{{- end }}
{{- if eq .component "serving" }}
  - { name: MODELYARD_PASSPORT_TRUSTED_KEYS, value: /etc/modelyard/passport/trusted.pem }
  - { name: MODELYARD_FLEET_SIGNING_KEY, value: /etc/modelyard/fleet/fleet.pem }
{{- end }}
{{- if $root.Values.tls.enabled }}
  - { name: MODELYARD_TLS_CERTIFICATE, value: /etc/modelyard/tls/tls.crt }
  - { name: MODELYARD_TLS_KEY, value: /etc/modelyard/tls/tls.key }
  - { name: MODELYARD_TLS_CA, value: /etc/modelyard/tls/ca.crt }
{{- end }}
{{- $labels := printf "app.kubernetes.io/name=modelyard,app.kubernetes.io/instance=%s,app.kubernetes.io/part-of=modelyard" $root.Release.Name }}
{{- $secrets := join "," $root.Values.image.pullSecrets }}
{{- $here := printf "%s-%s.%s.svc.%s:8970" $name .component $root.Release.Namespace $root.Values.clusterDomain }}
{{- if and (eq $root.Values.jobs.runner "kubernetes") (ne .component "pipeline") (ne .component "serving") }}
  - { name: MODELYARD_WORKER_IMAGE, value: {{ include "modelyard.image" (dict "root" $root "component" .component "image" (index $root.Values .component "image")) | quote }} }
  - { name: MODELYARD_WORKER_ADDRESS, value: {{ $here }} }
  - { name: MODELYARD_WORKER_PULL_POLICY, value: {{ $root.Values.image.pullPolicy }} }
  - { name: MODELYARD_WORKER_PULL_SECRETS, value: {{ $secrets | quote }} }
  - { name: MODELYARD_WORKER_USER, value: "10001" }
  - { name: MODELYARD_RUNNER_LABELS, value: "{{ $labels }},app.kubernetes.io/component=worker" }
  # Jobs go when the release goes.
  - { name: MODELYARD_RUNNER_OWNER, value: apps/v1/Deployment/{{ $name }}-{{ .component }} }
  - { name: MODELYARD_RUNNER_QUEUE, value: {{ $root.Values.jobs.queue | quote }} }
{{- if $root.Values.tls.enabled }}
  - { name: MODELYARD_WORKER_TLS_SECRET, value: {{ $name }}-worker-tls }
{{- end }}
{{- end }}
{{- if has .component (list "pipeline" "serving") }}
  # They have no workers, and no right to make any.
  - { name: MODELYARD_RUNNER, value: process }
{{- end }}
{{- range $key, $value := merge (dict) (index $root.Values .component "settings" | default dict) $root.Values.defaults.settings }}
  - { name: {{ $key }}, value: {{ $value | toString | quote }} }
{{- end }}
{{- end }}

{{/* Volumes of a service, and their mounts. Arguments: root, component. */}}
{{- define "modelyard.mounts" -}}
- { name: data, mountPath: /var/lib/modelyard }
- { name: tmp, mountPath: /tmp }
- { name: config, mountPath: /etc/modelyard/config, readOnly: true }
{{- if .root.Values.tls.enabled }}
- { name: tls, mountPath: /etc/modelyard/tls, readOnly: true }
{{- end }}
{{- if has .component (list "evaluator" "serving") }}
- { name: passport, mountPath: /etc/modelyard/passport, readOnly: true }
{{- end }}
{{- if eq .component "serving" }}
- { name: fleet, mountPath: /etc/modelyard/fleet, readOnly: true }
{{- end }}
{{- if eq .root.Values.auth.mode "token" }}
- { name: tokens, mountPath: /etc/modelyard/tokens, readOnly: true }
{{- end }}
{{- end }}
{{- define "modelyard.volumes" -}}
{{- $name := include "modelyard.fullname" .root }}
- { name: data, emptyDir: { sizeLimit: {{ index .root.Values .component "dataSize" | default .root.Values.defaults.dataSize }} } }
- { name: tmp, emptyDir: { sizeLimit: 10Gi } }
- { name: config, configMap: { name: {{ $name }}-config } }
{{- if .root.Values.tls.enabled }}
- { name: tls, secret: { secretName: {{ $name }}-{{ .component }}-tls, defaultMode: 0440 } }
{{- end }}
{{- if eq .component "evaluator" }}
- { name: passport, secret: { secretName: {{ include "modelyard.passportSecret" .root }}, defaultMode: 0440, items: [{ key: passport.pem, path: passport.pem }] } }
{{- else if eq .component "serving" }}
- { name: passport, secret: { secretName: {{ include "modelyard.passportSecret" .root }}, defaultMode: 0440, items: [{ key: trusted.pem, path: trusted.pem }] } }
- { name: fleet, secret: { secretName: {{ include "modelyard.fleetSecret" .root }}, defaultMode: 0440, items: [{ key: fleet.pem, path: fleet.pem }] } }
{{- end }}
{{- if eq .root.Values.auth.mode "token" }}
- { name: tokens, secret: { secretName: {{ include "modelyard.tokensSecret" .root }}, defaultMode: 0440 } }
{{- end }}
{{- end }}

{{/* "true" for the services that create jobs or pods. Arguments: root, component. */}}
{{- define "modelyard.talksToKubernetes" -}}
{{- $jobs := and (ne .root.Values.jobs.runner "process") (has .component (list "dataset" "trainer" "exporter" "evaluator")) }}
{{- or $jobs (and (eq .component "serving") (eq .root.Values.serving.pods "kubernetes")) }}
{{- end }}
