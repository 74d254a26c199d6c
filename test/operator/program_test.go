// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// program is the operator that ships, as a process.
type program struct {
	cmd             *exec.Cmd
	metrics, health string // addresses on loopback
	token           string // of its ServiceAccount
	output, log     bytes.Buffer
	done            chan struct{}
}

// startProgram starts the operator as its ServiceAccount with the flags of config/manager, on addresses of this machine,
// and returns when it is ready. It ends with the test.
func startProgram(t *testing.T) *program {
	t.Helper()
	binary, err := env.binary()
	if err != nil {
		t.Fatal(err)
	}
	account := client.ObjectKey{Namespace: operatorNamespace, Name: "pci-network-baseline"}
	p := &program{token: tokenOf(t, account), done: make(chan struct{})}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := env.cluster.KubeconfigForToken(kubeconfig, p.token); err != nil {
		t.Fatal(err)
	}
	p.metrics, p.health = freeAddresses(t)
	p.cmd = exec.CommandContext(contextOf(t), binary, "--kubeconfig="+kubeconfig, "--leader-elect=true",
		"--metrics-bind-address="+p.metrics, "--health-probe-bind-address="+p.health)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.log
	// It must not outlive a test binary that panics. Linux sends the signal when the thread ends that started it.
	runtime.LockOSThread()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		runtime.UnlockOSThread()
		if t.Failed() {
			t.Logf("log of the operator:\n%s", p.log.String())
		}
	})
	eventually.That(t, "the program is ready", func() error {
		select {
		case <-p.done:
			t.Fatal("it has ended")
		default:
		}
		return p.healthy(t, "/readyz")
	})
	return p
}

// freeAddresses returns two addresses of loopback below the range from which Linux takes the ports of outgoing connections.
func freeAddresses(t *testing.T) (first, second string) {
	t.Helper()
	var config net.ListenConfig
	var found []string
	for range 200 {
		listener, err := config.Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(12000))))
		if err != nil {
			continue
		}
		defer func() { _ = listener.Close() }() // held until both are found, so that they differ
		if found = append(found, listener.Addr().String()); len(found) == 2 {
			return found[0], found[1]
		}
	}
	t.Fatal("no two free ports")
	return "", ""
}

// healthy asks one of the health endpoints.
func (p *program) healthy(t *testing.T, path string) error {
	t.Helper()
	response, err := fetch(t, http.DefaultClient, "http://"+p.health+path, "")
	if err != nil {
		return err
	}
	if response.status != http.StatusOK {
		return fmt.Errorf("%s answers %d: %s", path, response.status, response.body)
	}
	return nil
}

type answer struct {
	status int
	body   string
	// tls is the protocol's version; 0 for none.
	tls uint16
}

// fetch sends a GET with a bearer token, "" for none.
func fetch(t *testing.T, c *http.Client, url, token string) (answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), eventually.Patience/3)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := c.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	out := answer{status: response.StatusCode, body: string(body)}
	if response.TLS != nil {
		out.tls = response.TLS.Version
	}
	return out, err
}

// over returns a client that speaks TLS up to a version. The operator makes its certificate itself, so nobody signed it.
func over(t *testing.T, version uint16) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MaxVersion: version}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// scrape gets the metrics as Prometheus does.
func (p *program) scrape(t *testing.T, token string) answer {
	t.Helper()
	got, err := fetch(t, over(t, tls.VersionTLS13), "https://"+p.metrics+"/metrics", token)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// terminate ends the program as the kubelet does, and returns how long it took.
func (p *program) terminate(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(eventually.Patience):
		t.Fatalf("it runs on %s after SIGTERM", eventually.Patience)
	}
	return time.Since(began)
}

// createAccount creates a ServiceAccount.
func createAccount(t *testing.T, namespace string) client.ObjectKey {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: uniqueName("account")}}
	create(t, account)
	return keyOf(account)
}

// tokenOf returns a new token of a ServiceAccount, for the API server unless audiences are given.
func tokenOf(t *testing.T, account client.ObjectKey, audiences ...string) string {
	t.Helper()
	object := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: account.Namespace, Name: account.Name}}
	token := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences}}
	if err := env.client.SubResource("token").Create(t.Context(), object, token); err != nil {
		t.Fatal(err)
	}
	return token.Status.Token
}

// TestTheProgramThatShips looks at all that it shows the outside. It is the only operator meanwhile, and so not parallel.
func TestTheProgramThatShips(t *testing.T) { //nolint:paralleltest // see above
	alone(t)
	p := startProgram(t)
	b := createBaseline(t, nil)
	awaitBaseline(t, b) // protection is measured of namespaces that come later
	namespace := protected(t, b)
	if err := env.client.Delete(t.Context(), policiesIn(t, namespace)[denyName(b.Name)]); err != nil {
		t.Fatal(err)
	}
	awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name))
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected")

	t.Run("metrics are for those who may", p.testAccess)
	t.Run("metrics are encrypted", p.testEncryption)
	t.Run("metrics tell what they should and name no namespace", func(t *testing.T) { p.testSeries(t, b.Name) })
	t.Run("health is told to everybody", p.testHealth)
	t.Run("SIGTERM ends it", p.testTermination)
	t.Run("its log is JSON", p.testLog)
}

func (p *program) testHealth(t *testing.T) {
	for _, path := range []string{"/healthz", "/readyz"} {
		if err := p.healthy(t, path); err != nil {
			t.Error(err)
		}
	}
	if got, err := fetch(t, http.DefaultClient, "http://"+p.health+"/metrics", ""); err != nil || got.status != http.StatusNotFound {
		t.Errorf("the health endpoint answers for metrics too: %d, %v", got.status, err)
	}
}

// testTermination also wants the lease back: whoever takes over must not wait for it to end.
func (p *program) testTermination(t *testing.T) {
	if took := p.terminate(t); took > 5*time.Second || p.cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("it took %s and ended with %s", took, p.cmd.ProcessState)
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "pci-network-baseline"}}
	if err := env.client.Get(t.Context(), keyOf(lease), lease); err != nil {
		t.Fatal(err)
	}
	if holder := lease.Spec.HolderIdentity; holder != nil && *holder != "" {
		t.Errorf("%s still holds the lease", *holder)
	}
}

// testLog runs after the end of the program.
func (p *program) testLog(t *testing.T) {
	if p.output.Len() > 0 {
		t.Errorf("it wrote to standard output: %s", p.output.String())
	}
	messages := map[string]bool{}
	for line := range strings.Lines(p.log.String()) {
		entry := struct{ Time, Level, Msg string }{}
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Time == "" || entry.Level == "" || entry.Msg == "" {
			t.Errorf("not an entry with time, level and msg: %v: %s", err, line)
		}
		messages[entry.Msg] = true
	}
	for _, msg := range []string{"Starting", "Restored a policy"} {
		if !messages[msg] {
			t.Errorf("the log has no entry %q", msg)
		}
	}
	if strings.Contains(p.log.String(), p.token) {
		t.Error("the log holds the operator's token")
	}
}

func TestTheProgramSaysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		flags []string
		code  int
		says  string
	}{
		"metrics in the clear on every address": {
			[]string{"--metrics-secure=false"}, 1, `pci-network-baseline: --metrics-secure=false: ":8443" is not a loopback address`,
		},
		"metrics in the clear on a name": {
			[]string{"--metrics-secure=false", "--metrics-bind-address=localhost:8080"}, 1, `"localhost:8080" is not a loopback address`,
		},
		"no cluster":         {nil, 1, "pci-network-baseline: not in a pod: give --kubeconfig"},
		"no such kubeconfig": {[]string{"--kubeconfig=/nowhere"}, 1, "/nowhere: no such file"},
		"no such flag":       {[]string{"--metrics-insecure"}, 2, "flag provided but not defined: -metrics-insecure"},
	}
	binary, err := env.binary()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), eventually.Patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, binary, test.flags...)
			cmd.Env = append(os.Environ(), "KUBERNETES_SERVICE_HOST=", "KUBERNETES_SERVICE_PORT=")
			var log bytes.Buffer
			cmd.Stderr = &log
			exit := &exec.ExitError{}
			if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != test.code {
				t.Errorf("it ended with %v, want exit status %d", err, test.code)
			}
			if !strings.Contains(log.String(), test.says) {
				t.Errorf("it said %q, want %q", log.String(), test.says)
			}
		})
	}
}
