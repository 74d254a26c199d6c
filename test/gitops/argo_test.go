// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// health is what a health check returns to Argo CD, with the field names of its health_test.yaml.
type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// argoRun runs a health check as Argo CD 3 does (util/lua in its repository): the object is the global obj, a run may
// take one second, and there is no count of instructions. allLibraries is what a script gets that comes with Argo CD;
// one from argocd-cm has base, package, table and a safe os, unless resource.customizations.useOpenLibs is set for it.
func argoRun(script string, obj map[string]any, allLibraries bool) (health, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: !allLibraries})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
	} {
		err := state.CallByParam(lua.P{Fn: state.NewFunction(library.open), Protect: true}, lua.LString(library.name))
		if err != nil {
			return health{}, err
		}
	}
	state.PreloadModule(lua.OsLibName, loadSafeOS)

	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(ctx)
	state.SetGlobal("obj", toLua(state, obj))
	if err := state.DoString(script); err != nil {
		return health{}, err
	}
	result, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return health{}, fmt.Errorf("the script returned a %s, not a table", state.Get(-1).Type())
	}
	return toHealth(result)
}

// loadSafeOS is what require("os") gives: the clock, and nothing that reaches the machine.
func loadSafeOS(state *lua.LState) int {
	state.Push(state.SetFuncs(state.NewTable(), map[string]lua.LGFunction{
		"time": func(s *lua.LState) int { s.Push(lua.LNumber(time.Now().Unix())); return 1 },
		"date": func(s *lua.LState) int { s.Push(lua.LString(time.Now().UTC().Format(time.RFC3339))); return 1 },
	}))
	return 1
}

// toHealth accepts what Argo CD would: a known status, and a message that is a string or absent.
func toHealth(table *lua.LTable) (health, error) {
	var result health
	switch status := table.RawGetString("status").(type) {
	case lua.LString:
		result.Status = string(status)
	default:
		return health{}, fmt.Errorf("status is a %s", status.Type())
	}
	switch message := table.RawGetString("message").(type) {
	case lua.LString:
		result.Message = string(message)
	case *lua.LNilType:
	default:
		return health{}, fmt.Errorf("message is a %s", message.Type())
	}
	switch result.Status {
	case "Healthy", "Progressing", "Degraded", "Suspended":
		return result, nil
	}
	return health{}, errors.New("Argo CD knows no health status " + result.Status)
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case string:
		return lua.LString(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case json.Number:
		return lua.LString(value)
	case []any:
		table := state.NewTable()
		for _, item := range value {
			table.Append(toLua(state, item))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for key, item := range value {
			table.RawSetString(key, toLua(state, item))
		}
		return table
	}
	return lua.LNil
}

func TestLibrariesOfAScriptInArgoCM(t *testing.T) {
	t.Parallel()
	const script = `
		local found = {}
		for _, name in ipairs({"string", "io", "os", "math", "debug", "coroutine"}) do
			table.insert(found, _G[name])
		end
		if #found > 0 or require("os").time() < 1e9 then return {status = "Degraded"} end
		return {status = "Healthy"}`
	got, err := argoRun(script, nil, false)
	if err != nil || got.Status != "Healthy" {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := argoRun(script, nil, true); err != nil || got.Status != "Degraded" {
		t.Errorf("with all libraries: got %+v, %v", got, err)
	}
	if _, err := argoRun(`while true do end`, nil, false); err == nil {
		t.Error("a script without end came to one")
	}
	if got, err := argoRun(`return {status = "Ready"}`, nil, false); err == nil {
		t.Errorf("a status that Argo CD does not know was accepted: %+v", got)
	}
}
