// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package docs_test keeps the pages and the code together: every reason has its place, every link leads somewhere, every
// linked name is declared where the link says, every make target that is named exists.
package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root           = ".."
	conditionsFile = "../api/v1alpha1/conditions.go"
)

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// pages returns the text of README.md and of everything below docs by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"../README.md", "*.md", "*/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			found[file] = read(t, file)
		}
	}
	if len(found) < 8 {
		t.Fatalf("found only %v", slices.Sorted(maps.Keys(found)))
	}
	return found
}

func parse(t *testing.T, file string) *ast.File {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// values returns the values of the string constants of conditions.go whose names begin with prefix.
func values(t *testing.T, prefix string) []string {
	t.Helper()
	var out []string
	ast.Inspect(parse(t, conditionsFile), func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, prefix) || len(spec.Values) != 1 {
			return true
		}
		if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
			value, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Error(err)
			}
			out = append(out, value)
		}
		return true
	})
	if len(out) == 0 {
		t.Fatalf("%s has no constant %s…", conditionsFile, prefix)
	}
	return out
}

// between returns the part of a text from one heading to another.
func between(t *testing.T, text, from, to string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "\n"+from+"\n")
	if !found {
		t.Fatalf("no heading %q", from)
	}
	part, _, found := strings.Cut(rest, "\n"+to+"\n")
	if !found {
		t.Fatalf("no heading %q behind %q", to, from)
	}
	return part
}

func TestEveryConditionAndReasonIsInTheSpec(t *testing.T) {
	t.Parallel()
	spec := read(t, "spec.md")
	// Written by hand: which condition has which reason, and when.
	when := between(t, spec, "## Conditions and reasons", "<!-- begin reasons -->")
	when = regexp.MustCompile(`(?s)<!-- begin .*?<!-- end`).ReplaceAllString(when, "")
	generated := between(t, spec, "## Conditions and reasons", "## Events")
	for _, value := range slices.Concat(values(t, "Condition"), values(t, "Reason")) {
		if !strings.Contains(generated, "`"+value+"`") {
			t.Errorf("spec.md lacks %s in its tables: run make docs", value)
		}
		if !strings.Contains(when, "`"+value+"`") {
			t.Errorf("spec.md does not say when %s is used: add it to the text under \"Conditions and reasons\"", value)
		}
	}
}

func TestEveryReasonHasARunbook(t *testing.T) {
	t.Parallel()
	runbooks := read(t, "runbooks.md")
	_, nothing, found := strings.Cut(runbooks, "\n## Nothing to do\n")
	if !found {
		t.Fatal(`runbooks.md has no section "Nothing to do"`)
	}
	for _, reason := range values(t, "Reason") {
		section := strings.Contains(runbooks, "\n## "+reason+"\n")
		if harmless := strings.Contains(nothing, "`"+reason+"`"); section == harmless {
			t.Errorf("%s needs a section in runbooks.md, or a place under \"Nothing to do\", and not both", reason)
		}
	}
}

// TestEveryEventReasonIsInTheSpec finds reasons of events that are no reasons of conditions.
func TestEveryEventReasonIsInTheSpec(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../controllers/*.go")
	if err != nil {
		t.Fatal(err)
	}
	events := between(t, read(t, "spec.md"), "## Events", "## Metrics")
	call := regexp.MustCompile(`\.event\([^,]+, \w+, "(\w+)"`)
	count := 0
	for _, file := range files {
		for _, match := range call.FindAllStringSubmatch(read(t, file), -1) {
			count++
			if !strings.Contains(events, "`"+match[1]+"`") {
				t.Errorf("spec.md does not list the event %s of %s", match[1], file)
			}
		}
	}
	if count == 0 {
		t.Error("no event found in controllers: this test looks for the wrong call")
	}
}

var (
	link    = regexp.MustCompile(`\[([^\]]*(?:\[\])?[^\]]*)\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
)

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	t.Parallel()
	count := 0
	for page, text := range pages(t) {
		for _, match := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			if strings.Contains(match[2], "://") {
				continue
			}
			count++
			path, anchor, _ := strings.Cut(match[2], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which does not exist", page, match[2])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s links to %s: no heading has that anchor", page, match[2])
			}
			if name := strings.Trim(match[1], "`"); name != match[1] && strings.HasSuffix(target, ".go") {
				checkDeclared(t, page, target, name)
			}
		}
	}
	if count < 50 {
		t.Errorf("only %d links found", count)
	}
}

// anchors returns the anchors that a page's headings get.
func anchors(text string) []string {
	var out []string
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, match := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		out = append(out, strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-"))
	}
	return out
}

// checkDeclared wants a name, or Type.Method, to be declared in a file.
func checkDeclared(t *testing.T, page, file, name string) {
	t.Helper()
	if !slices.Contains(declared(parse(t, file)), name) {
		t.Errorf("%s: %s does not declare %s", page, file, name)
	}
}

func declared(file *ast.File) []string {
	var out []string
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			out = append(out, receiver(d)+d.Name.Name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					out = append(out, s.Name.Name)
				case *ast.ValueSpec:
					for _, name := range s.Names {
						out = append(out, name.Name)
					}
				}
			}
		}
	}
	return out
}

// receiver returns "Type." for a method and "" for a function.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	kind := f.Recv.List[0].Type
	if star, ok := kind.(*ast.StarExpr); ok {
		kind = star.X
	}
	if name, ok := kind.(*ast.Ident); ok {
		return name.Name + "."
	}
	return ""
}

func TestEveryMakeTargetExists(t *testing.T) {
	t.Parallel()
	makefile := "\n" + read(t, filepath.Join(root, "Makefile"))
	call := regexp.MustCompile("(?m)(?:`|^ *)make ([a-z][a-z0-9 -]*)")
	count := 0
	for page, text := range pages(t) {
		for _, match := range call.FindAllStringSubmatch(text, -1) {
			for target := range strings.FieldsSeq(match[1]) {
				count++
				if !strings.Contains(makefile, "\n"+target+":") {
					t.Errorf("%s names make %s, which the Makefile does not have", page, target)
				}
			}
		}
	}
	if count < 10 {
		t.Errorf("only %d calls of make found", count)
	}
}
