// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pcinetwork/pci-network-baseline/internal/facts/cloud"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
	"github.com/pcinetwork/pci-network-baseline/test/clouds"
)

var all = []snapshot.Cloud{snapshot.EKS, snapshot.GKE, snapshot.AKS}

// good is a description in which nobody is let in whom somebody did not list, so that a failure which is taken for an answer shows.
var good = map[snapshot.Cloud]string{
	snapshot.EKS: `"endpointPublicAccess":false,"endpointPrivateAccess":true,"publicAccessCidrs":[]`,
	snapshot.GKE: `,"controlPlaneEndpointsConfig":{"dnsEndpointConfig":{"allowExternalTraffic":false},"ipEndpointsConfig":{"enabled":false}}`,
	snapshot.AKS: `,"apiServerAccessProfile":{"enablePrivateCluster":true}`,
}

// failed checks that a reading failed, as it should, and says nothing else.
func failed(t *testing.T, got snapshot.ControlPlane, want snapshot.Failure, words string) {
	t.Helper()
	if got.Failure != want || !strings.Contains(got.Problem, words) {
		t.Errorf("got %q: %q, want %s with %q", got.Failure, got.Problem, want, words)
	}
	if got.Remedy == "" {
		t.Error("no remedy")
	}
	if len(got.Entrances) > 0 {
		t.Errorf("a failure says %v", summaries(&got))
	}
	for _, secret := range []string{"AKID", "token-", "1732550000", "127.0.0.1"} {
		if strings.Contains(got.Problem, secret) {
			t.Errorf("%q has %s in it", got.Problem, secret)
		}
	}
}

func TestFailuresAreTold(t *testing.T) {
	t.Parallel()
	type answer struct {
		status int
		code   string
	}
	for name, c := range map[string]struct {
		answers map[snapshot.Cloud]answer
		want    snapshot.Failure
	}{
		"denied": {map[snapshot.Cloud]answer{
			snapshot.EKS: {http.StatusForbidden, "AccessDeniedException"}, snapshot.GKE: {http.StatusForbidden, "forbidden"},
			snapshot.AKS: {http.StatusForbidden, "AuthorizationFailed"},
		}, snapshot.Denied},
		"not there": {map[snapshot.Cloud]answer{
			snapshot.EKS: {http.StatusNotFound, "ResourceNotFoundException"}, snapshot.GKE: {http.StatusNotFound, "notFound"},
			snapshot.AKS: {http.StatusNotFound, "ResourceGroupNotFound"},
		}, snapshot.NoSuchCluster},
		"credentials that are no good": {map[snapshot.Cloud]answer{
			snapshot.EKS: {http.StatusForbidden, "ExpiredTokenException"}, snapshot.GKE: {http.StatusUnauthorized, "authError"},
			snapshot.AKS: {http.StatusUnauthorized, "ExpiredAuthenticationToken"},
		}, snapshot.NoCredentials},
		"a request that is not understood": {map[snapshot.Cloud]answer{
			snapshot.EKS: {http.StatusBadRequest, "InvalidParameterException"}, snapshot.GKE: {http.StatusBadRequest, "badRequest"},
			snapshot.AKS: {http.StatusBadRequest, "InvalidApiVersionParameter"},
		}, snapshot.NotUnderstood},
		"throttled for ever": {map[snapshot.Cloud]answer{
			snapshot.EKS: {http.StatusBadRequest, "ThrottlingException"}, snapshot.GKE: {http.StatusTooManyRequests, "rateLimitExceeded"},
			snapshot.AKS: {http.StatusTooManyRequests, "TooManyRequests"},
		}, snapshot.Throttled},
		"an outage": {map[snapshot.Cloud]answer{
			snapshot.EKS: {http.StatusServiceUnavailable, "ServiceUnavailableException"}, snapshot.GKE: {http.StatusBadGateway, "backendError"},
			snapshot.AKS: {http.StatusInternalServerError, "InternalServerError"},
		}, snapshot.Outage},
	} {
		for of, a := range c.answers {
			t.Run(name+" by "+string(of), func(t *testing.T) {
				t.Parallel()
				f := clouds.New(t, of, clouds.Refuse(of, a.status, a.code))
				failed(t, f.Describe(t.Context(), clouds.Clusters[of]), c.want, fmt.Sprintf("%s answers %d %s", clouds.Describing[of], a.status, a.code))
				if n := f.Count(clouds.Describing[of]); n < 1 || n > 3 {
					t.Errorf("asked %d times", n)
				}
				f.Only(t, clouds.Credentials[of], clouds.Describing[of])
			})
		}
	}
}

// TestOnlyCodesOfAnswersAreTold: the words of an answer end in a status, and may be anybody's.
func TestOnlyCodesOfAnswersAreTold(t *testing.T) {
	t.Parallel()
	f := clouds.New(t, snapshot.GKE, clouds.Refuse(snapshot.GKE, http.StatusForbidden, "you may; run this at 12:01"))
	failed(t, f.Describe(t.Context(), clouds.Clusters[snapshot.GKE]), snapshot.Denied, clouds.HostGKE+" answers 403")
	if got := f.Describe(t.Context(), clouds.Clusters[snapshot.GKE]); strings.Contains(got.Problem, "run this") {
		t.Error(got.Problem)
	}
}

// TestThrottlingThatEndsIsWaitedFor also shows that an outage which ends is.
func TestThrottlingThatEndsIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, of := range all {
		for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
			t.Run(fmt.Sprint(of, " ", status), func(t *testing.T) {
				t.Parallel()
				var n atomic.Int32
				f := clouds.New(t, of, func(w http.ResponseWriter, r *http.Request) {
					if n.Add(1) < 3 {
						clouds.Refuse(of, status, "TooManyRequestsException")(w, r)
						return
					}
					clouds.Says(clouds.Body(of, good[of]))(w, r)
				})
				got := f.Describe(t.Context(), clouds.Clusters[of])
				if got.Failure != "" || len(got.Entrances) == 0 {
					t.Errorf("%s: %s", got.Failure, got.Problem)
				}
			})
		}
	}
}

// TestAWaitThatIsAskedForIsBounded: a provider may ask for a wait of an hour.
func TestAWaitThatIsAskedForIsBounded(t *testing.T) {
	t.Parallel()
	for _, of := range all {
		t.Run(string(of), func(t *testing.T) {
			t.Parallel()
			f := clouds.New(t, of, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Retry-After", "3600")
				clouds.Refuse(of, http.StatusTooManyRequests, "TooManyRequestsException")(w, r)
			})
			f.Timeout = 6 * time.Second
			begin := time.Now()
			failed(t, f.Describe(t.Context(), clouds.Clusters[of]), snapshot.Throttled, "429")
			if took := time.Since(begin); took > 15*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestAnswersThatAreNoneAreNotUnderstood(t *testing.T) {
	t.Parallel()
	page := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>Log in to the proxy</html>")
	}
	for name, handler := range map[string]http.HandlerFunc{
		"nothing":                     func(http.ResponseWriter, *http.Request) {},
		"a page":                      page,
		"an object of another kind":   clouds.Says(`{"cluster":{},"kind":"Status","properties":null}`),
		"null":                        clouds.Says(`null`),
		"a list":                      clouds.Says(`[1,2]`),
		"half of it":                  clouds.Says(`{"cluster":{"resourcesVpcConfig":{"endpointPublicAccess":fal`),
		"words where there are flags": clouds.Says(`{"name":7,"cluster":{"resourcesVpcConfig":{"endpointPublicAccess":"no"}},"properties":{"apiServerAccessProfile":"no"}}`),
	} {
		for _, of := range all {
			t.Run(name+" from "+string(of), func(t *testing.T) {
				t.Parallel()
				f := clouds.New(t, of, handler)
				failed(t, f.Describe(t.Context(), clouds.Clusters[of]), snapshot.NotUnderstood, clouds.Describing[of])
			})
		}
	}
}

func TestAHugeAnswerIsNotRead(t *testing.T) {
	t.Parallel()
	for _, of := range all {
		t.Run(string(of), func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int64
			f := clouds.New(t, of, func(w http.ResponseWriter, _ *http.Request) {
				piece := []byte(`{"padding":"` + strings.Repeat("x", 1<<16))
				for sent.Load() < 1<<30 {
					n, err := w.Write(piece)
					if sent.Add(int64(n)); err != nil {
						return
					}
				}
			})
			failed(t, f.Describe(t.Context(), clouds.Clusters[of]), snapshot.NotUnderstood, "larger than 4 MiB")
			if mib := sent.Load() >> 20; mib > 100 { // three attempts, and what buffers of the kernel hold
				t.Errorf("%d MiB were taken", mib)
			}
		})
	}
}

func TestASlowAnswerIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	slow := func(begin func(http.ResponseWriter)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // the server notices that the client has gone only after that
			begin(w)
			<-r.Context().Done()
			panic(http.ErrAbortHandler) // a handler that returns would end the answer
		}
	}
	for name, handler := range map[string]http.HandlerFunc{
		"that does not begin": slow(func(http.ResponseWriter) {}),
		"that does not end": slow(func(w http.ResponseWriter) {
			fmt.Fprint(w, `{"cluster":{`)
			_ = http.NewResponseController(w).Flush()
		}),
	} {
		for _, of := range all {
			for _, phase := range []map[snapshot.Cloud]string{clouds.Describing, clouds.Credentials} {
				t.Run(name+" of "+phase[of], func(t *testing.T) {
					t.Parallel()
					f := clouds.New(t, of, clouds.Says(clouds.Body(of, good[of])))
					f.Handle(handler, phase[of])
					f.Timeout = 500 * time.Millisecond
					begin := time.Now()
					failed(t, f.Describe(t.Context(), clouds.Clusters[of]), snapshot.Outage, phase[of]+" does not answer in time")
					if took := time.Since(begin); took > 10*time.Second {
						t.Errorf("took %s", took)
					}
				})
			}
		}
	}
}

func TestWhatCannotBeReachedIsAnOutage(t *testing.T) {
	t.Parallel()
	for _, of := range all {
		t.Run(string(of), func(t *testing.T) {
			t.Parallel()
			f := clouds.New(t, of, clouds.Says(clouds.Body(of, good[of])))
			_, f.Transport.TLSClientConfig.RootCAs = clouds.Authority(t, "example.com")
			failed(t, f.Describe(t.Context(), clouds.Clusters[of]), snapshot.Outage, "its certificate is not trusted")
		})
		t.Run(string(of)+" breaks off", func(t *testing.T) {
			t.Parallel()
			f := clouds.New(t, of, func(w http.ResponseWriter, _ *http.Request) {
				connection, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				connection.Close()
			})
			failed(t, f.Describe(t.Context(), clouds.Clusters[of]), snapshot.Outage, clouds.Describing[of]+" cannot be reached: the connection broke")
		})
	}
}

// TestCredentialsThatAreNotGiven: also a token that the cloud does not accept any more, and endpoints that hand out nothing.
func TestCredentialsThatAreNotGiven(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(t *testing.T, f *clouds.Fake)
		want   map[snapshot.Cloud]string
		fails  snapshot.Failure
	}{
		"the pod has no identity": {
			func(_ *testing.T, f *clouds.Fake) { f.Identity = cloud.Identity{} },
			map[snapshot.Cloud]string{snapshot.EKS: "neither IRSA nor EKS Pod Identity", snapshot.AKS: "Workload ID set none"},
			snapshot.NoCredentials,
		},
		"there is no token": {
			func(t *testing.T, f *clouds.Fake) {
				t.Helper()
				if err := os.Remove(f.TokenFile); err != nil {
					t.Fatal(err)
				}
			},
			map[snapshot.Cloud]string{snapshot.EKS: "there is no token in", snapshot.AKS: "there is no token in"},
			snapshot.NoCredentials,
		},
		"the token has expired": {
			func(_ *testing.T, f *clouds.Fake) { f.Accept("another") },
			map[snapshot.Cloud]string{snapshot.EKS: clouds.HostSTS + " answers 400 ExpiredTokenException", snapshot.AKS: clouds.HostEntra + " answers 401 invalid_client"},
			snapshot.NoCredentials,
		},
		"the metadata server knows no ServiceAccount": {
			func(_ *testing.T, f *clouds.Fake) { f.Handle(http.NotFound, clouds.HostMetadata) },
			map[snapshot.Cloud]string{snapshot.GKE: clouds.HostMetadata + " answers 404"},
			snapshot.NoCredentials,
		},
		"the way to credentials is down": {
			func(_ *testing.T, f *clouds.Fake) {
				down := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
				f.Handle(down, clouds.HostMetadata, clouds.HostSTS, clouds.HostEntra)
			},
			map[snapshot.Cloud]string{snapshot.EKS: clouds.HostSTS + " answers 503", snapshot.GKE: clouds.HostMetadata + " answers 503", snapshot.AKS: clouds.HostEntra + " answers 503"},
			snapshot.Outage,
		},
		"what hands out credentials talks nonsense": {
			func(_ *testing.T, f *clouds.Fake) {
				f.Handle(clouds.Says(`{}`), clouds.HostMetadata, clouds.HostSTS, clouds.HostEntra)
			},
			map[snapshot.Cloud]string{snapshot.EKS: clouds.HostSTS, snapshot.GKE: "without a token", snapshot.AKS: clouds.HostEntra},
			snapshot.NotUnderstood,
		},
		"the authority is nobody's": {
			func(_ *testing.T, f *clouds.Fake) { f.Identity.Authority = "https://login.example.com/" },
			map[snapshot.Cloud]string{snapshot.AKS: "none of Azure's"},
			snapshot.NoCredentials,
		},
		"the agent is nobody's": {
			func(_ *testing.T, f *clouds.Fake) {
				f.Identity = cloud.Identity{ContainerURI: "http://169.254.169.254/latest/meta-data/", ContainerTokenFile: f.TokenFile}
			},
			map[snapshot.Cloud]string{snapshot.EKS: "not that of EKS Pod Identity"},
			snapshot.NoCredentials,
		},
	} {
		for of, words := range c.want {
			t.Run(name+", "+string(of), func(t *testing.T) {
				t.Parallel()
				f := clouds.New(t, of, clouds.Says(clouds.Body(of, good[of])))
				c.change(t, f)
				failed(t, f.Describe(t.Context(), clouds.Clusters[of]), c.fails, words)
				if n := f.Count(clouds.Describing[of]); n > 0 {
					t.Errorf("asked %s without credentials", clouds.Describing[of])
				}
				f.Only(t, clouds.Credentials[of])
			})
		}
	}
}

// TestNothingIsAskedBesideTheQuestion: wherever a provider points, and whatever an SDK would do to help, no other host is dialled,
// and nothing is written.
func TestNothingIsAskedBesideTheQuestion(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		clouds  []snapshot.Cloud
		handler http.HandlerFunc
		want    snapshot.Failure
		words   string
	}{
		"a redirect to the metadata service": {
			all, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/iam/security-credentials/", http.StatusTemporaryRedirect)
			}, snapshot.NotUnderstood, "answers 307",
		},
		"a redirect to somebody else": {
			all, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://example.com/", http.StatusFound)
			}, snapshot.NotUnderstood, "answers 302",
		},
		"a provider that is not registered, which the SDK would register": {
			[]snapshot.Cloud{snapshot.AKS},
			clouds.Refuse(snapshot.AKS, http.StatusConflict, "MissingSubscriptionRegistration"), snapshot.NotUnderstood,
			"answers 409 MissingSubscriptionRegistration",
		},
	} {
		for _, of := range c.clouds {
			t.Run(name+", "+string(of), func(t *testing.T) {
				t.Parallel()
				f := clouds.New(t, of, c.handler)
				failed(t, f.Describe(t.Context(), clouds.Clusters[of]), c.want, c.words)
				f.Only(t, clouds.Credentials[of], clouds.Describing[of])
			})
		}
	}
	t.Run("a token endpoint elsewhere", func(t *testing.T) {
		t.Parallel()
		f := clouds.New(t, snapshot.AKS, clouds.Says(clouds.Body(snapshot.AKS, good[snapshot.AKS])))
		f.Handle(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"token_endpoint":"https://login.example.com/%s/oauth2/v2.0/token","issuer":"https://%s/%s/v2.0","authorization_endpoint":"https://login.example.com/a"}`, clouds.Tenant, clouds.HostEntra, clouds.Tenant)
		}, clouds.HostEntra)
		got := f.Describe(t.Context(), clouds.Clusters[snapshot.AKS])
		failed(t, got, snapshot.NotUnderstood, "")
		f.Only(t, clouds.HostEntra)
	})
}
