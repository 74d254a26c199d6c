// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package oci_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/hack/oci"
)

func TestWrite(t *testing.T) {
	image := oci.Image{
		Name: "example.com/app:v1", Program: []byte("program"), Path: "/app", Args: []string{"serve"},
		Labels: map[string]string{"a": "1", "b": "2"}, Architecture: "arm64",
	}
	var first, second bytes.Buffer
	digest, err := image.Write(&first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := image.Write(&second); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same input gave other bytes")
	}
	files := unpack(t, &first)
	for name, content := range files {
		if want, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && want != fmt.Sprintf("%x", sha256.Sum256(content)) {
			t.Errorf("%s is not named after its content", name)
		}
	}
	blob := func(digest string) []byte { return files["blobs/sha256/"+strings.TrimPrefix(digest, "sha256:")] }

	var index struct{ Manifests []struct{ Digest string } }
	var manifest struct {
		Config struct{ Digest string }
		Layers []struct{ Size int }
	}
	var config struct {
		Architecture string
		Config       struct {
			User            string
			Entrypoint, Cmd []string
		}
	}
	decode(t, files["index.json"], &index)
	decode(t, blob(digest), &manifest)
	decode(t, blob(manifest.Config.Digest), &config)
	if len(index.Manifests) != 1 || index.Manifests[0].Digest != digest {
		t.Errorf("index = %+v, want one manifest, %s", index, digest)
	}
	if len(manifest.Layers) != 1 {
		t.Errorf("%d layers, want 1: the image has no base", len(manifest.Layers))
	}
	got := []any{config.Architecture, config.Config.User, config.Config.Entrypoint, config.Config.Cmd}
	if diff := cmp.Diff([]any{"arm64", "65532:65532", []string{"/app"}, []string{"serve"}}, got); diff != "" {
		t.Error(diff)
	}
}

func unpack(t *testing.T, archive io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(archive); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func decode(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%v in %q", err, data)
	}
}
