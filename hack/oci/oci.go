// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package oci writes container images of one static program, without a
// container engine. The same input gives the same bytes: no times, no owners,
// no order of a map.
package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Image is an image with one layer that holds one executable.
type Image struct {
	// Name is the reference by which a container runtime knows the image, such as example.com/app:v1.
	Name string
	// Program is the content of the executable, and Path where it is in the image.
	Program []byte
	Path    string
	// Args are the arguments unless a container brings its own.
	Args []string
	// Labels describe the image.
	Labels map[string]string
	// Architecture is a GOARCH.
	Architecture string
}

// nonRoot is the user that distroless images made a custom, as uid:gid.
const nonRoot = "65532:65532"

// The types of the OCI image format, as far as used here:
// https://github.com/opencontainers/image-spec

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *platform         `json:"platform,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        *descriptor  `json:"config,omitempty"`
	Layers        []descriptor `json:"layers,omitempty"`
	Manifests     []descriptor `json:"manifests,omitempty"` // of an index
}

type config struct {
	platform
	Config containerConfig `json:"config"`
	RootFS rootFS          `json:"rootfs"`
}

type containerConfig struct {
	User       string            `json:"User"`
	Env        []string          `json:"Env"`
	Entrypoint []string          `json:"Entrypoint"`
	Cmd        []string          `json:"Cmd,omitempty"`
	WorkingDir string            `json:"WorkingDir"`
	Labels     map[string]string `json:"Labels,omitempty"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Write writes the image as an OCI archive, a tar of an image layout, and
// returns the digest of its manifest.
func (i Image) Write(w io.Writer) (string, error) {
	files, digest, err := i.layout()
	if err != nil {
		return "", fmt.Errorf("building image %s: %w", i.Name, err)
	}
	out := tar.NewWriter(w)
	if err := errors.Join(files.write(out), out.Close()); err != nil {
		return "", fmt.Errorf("writing image %s: %w", i.Name, err)
	}
	return digest, nil
}

// layout returns the files of the image layout, and the digest of the manifest.
func (i Image) layout() (files, string, error) {
	plain, err := i.layer()
	if err != nil {
		return nil, "", err
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write(plain); err != nil {
		return nil, "", err
	}
	if err := zip.Close(); err != nil {
		return nil, "", err
	}
	var all files
	layer := all.blob(typeLayer, packed.Bytes())
	on := platform{Architecture: i.Architecture, OS: "linux"}
	settings, err := json.Marshal(config{platform: on, Config: i.container(), RootFS: rootFS{Type: "layers", DiffIDs: []string{digestOf(plain)}}})
	if err != nil {
		return nil, "", err
	}
	about := all.blob(typeConfig, settings)
	content, err := json.Marshal(manifest{SchemaVersion: 2, MediaType: typeManifest, Config: &about, Layers: []descriptor{layer}})
	if err != nil {
		return nil, "", err
	}
	top := all.blob(typeManifest, content)
	top.Platform = &on
	// The first annotation is what containerd reads, the second what everybody else does.
	top.Annotations = map[string]string{"io.containerd.image.name": i.Name, "org.opencontainers.image.ref.name": i.Name}
	index, err := json.Marshal(manifest{SchemaVersion: 2, MediaType: typeIndex, Manifests: []descriptor{top}})
	if err != nil {
		return nil, "", err
	}
	all = append(all, file{"index.json", index}, file{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)})
	return all, top.Digest, nil
}

func (i Image) container() containerConfig {
	return containerConfig{
		User:       nonRoot,
		Env:        []string{"PATH=/"},
		Entrypoint: []string{i.Path},
		Cmd:        i.Args,
		WorkingDir: "/",
		Labels:     i.Labels,
	}
}

// layer returns a tar with the executable alone. Folders above it are made by
// whoever unpacks it.
func (i Image) layer() ([]byte, error) {
	if !path.IsAbs(i.Path) {
		return nil, fmt.Errorf("%q is not an absolute path", i.Path)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	header := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(i.Path, "/"), Mode: 0o755, Size: int64(len(i.Program)), Format: tar.FormatUSTAR}
	if err := w.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := w.Write(i.Program); err != nil {
		return nil, err
	}
	err := w.Close() // writes the end mark
	return out.Bytes(), err
}

type file struct {
	name    string
	content []byte
}

type files []file

// blob adds content under its digest.
func (f *files) blob(mediaType string, content []byte) descriptor {
	digest := digestOf(content)
	*f = append(*f, file{"blobs/sha256/" + strings.TrimPrefix(digest, "sha256:"), content})
	return descriptor{MediaType: mediaType, Digest: digest, Size: len(content)}
}

func (f files) write(w *tar.Writer) error {
	slices.SortFunc(f, func(a, b file) int { return strings.Compare(b.name, a.name) }) // oci-layout first, as readers like it
	for _, one := range f {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: one.name, Mode: 0o644, Size: int64(len(one.content)), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if _, err := w.Write(one.content); err != nil {
			return err
		}
	}
	return nil
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }
