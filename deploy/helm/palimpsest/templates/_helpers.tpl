{{/* The names of things. */}}
{{- define "palimpsest.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* (list root component): what selects the pods of a component; never to be changed, selectors cannot be. */}}
{{- define "palimpsest.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride | trunc 50 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "palimpsest.labels" -}}
{{- $root := index . 0 -}}
{{ include "palimpsest.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "palimpsest.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "palimpsest.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* (list root own): the image, where `own` is a component's part of it. A tag of its own is not overruled by the common digest. */}}
{{- define "palimpsest.image" -}}
{{- $root := index . 0 -}}
{{- $own := default (dict) (index . 1) -}}
{{- $image := merge (dict) $own $root.Values.image -}}
{{- $digest := ternary "" $image.digest (and (not (empty $own.tag)) (empty $own.digest)) -}}
{{- if $digest -}}
{{- printf "%s@%s" $image.repository $digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* What every pod has in common. Service links are off: Kubernetes would set PALIMPSEST_PORT to the address of a Service of that name, and
     the process would refuse it. */}}
{{- define "palimpsest.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* (list root component own): where the pods of a component run: apart from each other, if there is a choice. */}}
{{- define "palimpsest.placement" -}}
{{- $root := index . 0 -}}
{{- $own := index . 2 -}}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "palimpsest.selector" (list $root (index $ 1)) | nindent 8 }}
  {{- end }}
{{- with $own.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "palimpsest.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* (list secret names…): variables from a Secret, under their own names. */}}
{{- define "palimpsest.secrets" -}}
{{- $secret := index . 0 -}}
{{- range rest . }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ . }}
{{- end }}
{{- end -}}

{{- define "palimpsest.blobs" -}}
- name: PALIMPSEST_BLOBS
  value: {{ .Values.blobs.url | quote }}
- name: AWS_REGION
  value: {{ .Values.blobs.region | quote }}
{{- with .Values.blobs.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- if .Values.blobs.allowHttp }}
- name: AWS_ALLOW_HTTP
  value: "true"
{{- end }}
{{- if .Values.blobs.credentials }}
{{- include "palimpsest.secrets" (list .Values.existingSecret "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY") }}
{{- end }}
{{- end -}}

{{- define "palimpsest.tls" -}}
{{- if .Values.tls.existingSecret -}}
- name: PALIMPSEST_TLS_CERT
  value: /tls/tls.crt
- name: PALIMPSEST_TLS_KEY
  value: /tls/tls.key
- name: PALIMPSEST_TLS_CA
  value: /tls/ca.crt
{{- end -}}
{{- end -}}

{{/* (list root own): the settings of all processes and of this one, which win; and the directory in memory. */}}
{{- define "palimpsest.settings" -}}
{{- $root := index . 0 -}}
- name: PALIMPSEST_VAR_DIR
  value: /tmp/palimpsest
{{- range $name, $value := merge (dict) (default (dict) (index . 1)) $root.Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* (list root tls): the places that may be written or are read. */}}
{{- define "palimpsest.mounts" -}}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  {{- if index . 1 }}
  - name: tls
    mountPath: /tls
    readOnly: true
  {{- end }}
{{- end -}}

{{- define "palimpsest.volumes" -}}
volumes:
  - name: tmp
    emptyDir:
      medium: Memory
      sizeLimit: 64Mi
  {{- with index . 1 }}
  - name: tls
    secret:
      secretName: {{ . }}
      defaultMode: 0440
  {{- end }}
{{- end -}}

{{/* (port): the probes of a process. The first start reads 90 MB of encoder; `live` is the event loop alone. */}}
{{- define "palimpsest.probes" -}}
startupProbe:
  httpGet: {path: /health/live, port: {{ . }}}
  periodSeconds: 3
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /health/live, port: {{ . }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /health/ready, port: {{ . }}}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end -}}
