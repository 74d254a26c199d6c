// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Command budgets checks the parts of the house style that no linter does:
// lengths of files and of Reconcile, parameter counts, log messages that are
// not constant, and clients embedded in a struct.
//
//	budgets DIR
//
// It prints one "file:line: message (rule)" per fault and exits 1 if there are any.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

const (
	maxFile       = 400
	maxTestFile   = 800
	maxMakefile   = 250
	maxReconcile  = 40
	maxParameters = 5
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: budgets DIR")
		os.Exit(2)
	}
	faults, checked, err := checkTree(os.Args[1])
	for _, fault := range faults {
		fmt.Println(fault)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "budgets:", err)
		os.Exit(2)
	case checked == 0: // no files is not "no problem"
		fmt.Fprintln(os.Stderr, "budgets: no Go files in", os.Args[1])
		os.Exit(2)
	case len(faults) > 0:
		os.Exit(1)
	}
}

func checkTree(root string) (faults []string, checked int, err error) {
	tree := os.DirFS(root)
	err = fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && skipDir(name):
			return fs.SkipDir
		case entry.IsDir() || name != "Makefile" && path.Ext(name) != ".go":
			return nil
		}
		source, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		if name == "Makefile" {
			faults = append(faults, checkLength(name, source, maxMakefile)...)
			return nil
		}
		checked++
		found, err := checkSource(name, source)
		faults = append(faults, found...)
		return err
	})
	return faults, checked, err
}

// skipDir leaves out what the go command leaves out, and build output.
func skipDir(name string) bool {
	base := path.Base(name)
	return name != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") ||
		base == "testdata" || base == "vendor" || name == "bin")
}

// checkSource judges one Go file; name is its path from the root of the tree.
func checkSource(name string, source []byte) ([]string, error) {
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, name, source, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	if ast.IsGenerated(parsed) {
		return nil, nil
	}
	limit := maxFile
	if isTest(name) {
		limit = maxTestFile
	}
	faults := checkLength(name, source, limit)
	c := checker{fset: fset, test: isTest(name), client: importName(parsed, "sigs.k8s.io/controller-runtime/pkg/client")}
	ast.Inspect(parsed, c.visit)
	return append(faults, c.faults...), nil
}

func isTest(name string) bool { return strings.HasSuffix(name, "_test.go") }

func checkLength(name string, source []byte, limit int) []string {
	lines := strings.Count(string(source), "\n")
	if len(source) > 0 && source[len(source)-1] != '\n' {
		lines++
	}
	if lines <= limit {
		return nil
	}
	return []string{fmt.Sprintf("%s:%d: %d lines, at most %d (file-length)", name, limit+1, lines, limit)}
}

// importName returns the name by which the file calls an imported package, or "".
func importName(file *ast.File, imported string) string {
	for _, spec := range file.Imports {
		if strings.Trim(spec.Path.Value, `"`) != imported {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(imported)
	}
	return ""
}

type checker struct {
	fset   *token.FileSet
	test   bool
	client string // the file's name for the controller-runtime client package, if it imports it
	faults []string
}

func (c *checker) visit(node ast.Node) bool {
	switch n := node.(type) {
	case *ast.FuncType:
		c.parameters(n)
	case *ast.FuncDecl:
		c.reconcile(n)
	case *ast.StructType:
		c.embedded(n)
	case *ast.CallExpr:
		c.message(n)
	}
	return true
}

func (c *checker) fault(at token.Pos, rule, format string, args ...any) {
	position := c.fset.Position(at)
	c.faults = append(c.faults, fmt.Sprintf("%s:%d: %s (%s)", position.Filename, position.Line, fmt.Sprintf(format, args...), rule))
}

// parameters holds for literals and interface methods too: whoever declares the type chooses the count.
func (c *checker) parameters(fn *ast.FuncType) {
	if count := fn.Params.NumFields(); count > maxParameters {
		c.fault(fn.Pos(), "parameters", "%d parameters, at most %d", count, maxParameters)
	}
}

func (c *checker) reconcile(fn *ast.FuncDecl) {
	if fn.Recv == nil || fn.Name.Name != "Reconcile" || fn.Body == nil {
		return
	}
	lines := c.fset.Position(fn.Body.Rbrace).Line - c.fset.Position(fn.Body.Lbrace).Line - 1
	if lines > maxReconcile {
		c.fault(fn.Pos(), "reconcile-length", "Reconcile has %d lines, at most %d: move a phase out", lines, maxReconcile)
	}
}

// embedded spares tests, whose fakes override one method of a whole client.
func (c *checker) embedded(structure *ast.StructType) {
	if c.test || c.client == "" {
		return
	}
	for _, field := range structure.Fields.List {
		selector, ok := field.Type.(*ast.SelectorExpr)
		if !ok || len(field.Names) > 0 {
			continue
		}
		if pkg, ok := selector.X.(*ast.Ident); ok && pkg.Name == c.client {
			c.fault(field.Pos(), "embedded-client", "%s.%s is embedded: hold a %s.Reader in a named field",
				pkg.Name, selector.Sel.Name, pkg.Name)
		}
	}
}

// message looks at logr's Info(msg, …) and Error(err, msg, …). It knows names, not types,
// so it also reads other methods called Info and Error the same way.
func (c *checker) message(call *ast.CallExpr) {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return
	}
	index := slices.Index([]string{"Info", "Error"}, method.Sel.Name)
	if index < 0 || len(call.Args) <= index || c.test && index == 1 { // testing.T has an Error of its own
		return
	}
	if built(call.Args[index]) {
		c.fault(call.Pos(), "constant-message", "the log message is put together at run time: log a constant and pass values as keys")
	}
}

// built says whether a message is the result of fmt or of adding anything but literals.
func built(message ast.Expr) bool {
	switch m := message.(type) {
	case *ast.ParenExpr:
		return built(m.X)
	case *ast.CallExpr:
		function, ok := m.Fun.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		pkg, ok := function.X.(*ast.Ident)
		return ok && (pkg.Name == "fmt" || pkg.Name == "strings")
	case *ast.BinaryExpr:
		return !literal(m)
	}
	return false
}

func literal(expr ast.Expr) bool {
	switch e := expr.(type) {
	case *ast.BasicLit:
		return true
	case *ast.ParenExpr:
		return literal(e.X)
	case *ast.BinaryExpr:
		return literal(e.X) && literal(e.Y)
	}
	return false
}
