// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops_test

import (
	"flag"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite what is generated in config/argocd from the scripts and the recorded objects")

const (
	keysFile     = "argocd-cm-keys.yaml"
	wildcardFile = "argocd-cm-wildcard.yaml"

	generated = "# Written from resource_customizations/ by go test ./test/gitops -update; do not edit.\n"
	mapHead   = `apiVersion: v1
kind: ConfigMap
metadata:
  name: argocd-cm
  namespace: argocd
data:
`
	keysHead = generated +
		`# The health checks, for Argo CD's settings, one key per kind. Merge it into what is there:
#   kubectl -n argocd patch configmap argocd-cm --type merge --patch-file config/argocd/argocd-cm-keys.yaml
` + mapHead
	wildcardHead = generated +
		`# The health checks, for Argo CD's settings, as one entry for the whole group. It is one key for all groups: if your
# argocd-cm has a resource.customizations already, add the entry to it by hand, because a patch would replace it.
#   kubectl -n argocd patch configmap argocd-cm --type merge --patch-file config/argocd/argocd-cm-wildcard.yaml
` + mapHead
)

func indent(text, by string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines {
		if line != "" {
			lines[i] = by + line
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestConfigMapsHoldTheScripts(t *testing.T) {
	t.Parallel()
	keys := keysHead
	for _, kind := range []string{coverage, baseline} {
		keys += "  resource.customizations.health." + group + "_" + kind + ": |\n" + indent(script(t, kind), "    ")
	}
	wildcard := wildcardHead + "  resource.customizations: |\n    " + group + "/*:\n      health.lua: |\n" +
		indent(script(t, baseline), "        ")

	for name, want := range map[string]string{keysFile: keys, wildcardFile: wildcard} {
		golden(t, filepath.Join(argoDir, name), want)
	}
}

// golden compares a file with what it should be, or writes it.
func golden(t *testing.T, file, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, string(read(t, file))); diff != "" {
		t.Errorf("%s (-want +got); to accept: go test ./test/gitops -update\n%s", file, diff)
	}
}

// overrides reads a ConfigMap as Argo CD does (util/settings in its repository): first the map under the key
// resource.customizations, then keys of the form resource.customizations.<type>.<group>_<kind>.
func overrides(t *testing.T, name string) map[string]string {
	t.Helper()
	var configMap corev1.ConfigMap
	if err := yaml.UnmarshalStrict(read(t, filepath.Join(argoDir, name)), &configMap); err != nil {
		t.Fatal(err)
	}
	var merged map[string]struct {
		Health string `json:"health.lua"`
	}
	if err := yaml.UnmarshalStrict([]byte(configMap.Data["resource.customizations"]), &merged); err != nil {
		t.Fatal(err)
	}
	scripts := map[string]string{}
	for key, override := range merged {
		scripts[key] = override.Health
	}
	for key, value := range configMap.Data {
		if parts := strings.SplitN(key, ".", 4); len(parts) == 4 && parts[2] == "health" {
			scripts[strings.ReplaceAll(parts[3], "_", "/")] = value
		}
	}
	return scripts
}

// lookUp returns the script that Argo CD finds for a kind in a ConfigMap; "" for none.
func lookUp(t *testing.T, name, kind string) string {
	t.Helper()
	found := ""
	for pattern, script := range overrides(t, name) {
		if matched, err := path.Match(pattern, group+"/"+kind); err == nil && matched {
			found = script
		}
	}
	return found
}

func TestArgoFindsTheScriptOfEachKind(t *testing.T) {
	t.Parallel()
	for _, name := range []string{keysFile, wildcardFile} {
		for _, kind := range []string{baseline, coverage} {
			if diff := cmp.Diff(script(t, kind), lookUp(t, name, kind)); diff != "" {
				t.Errorf("%s, %s (-health.lua +found):\n%s", name, kind, diff)
			}
		}
	}
}
