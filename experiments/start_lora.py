"""Try: low-rank changes of the encoder, learned on some domains, judged on one left out."""
import sys, os, json, gzip, csv, io, random, time, lzma, math
import numpy as np, torch
from torch import nn
import torch.nn.functional as F

torch.set_num_threads(1)
D = os.environ["PALIMPSEST_DATA"] + "/"
def clinc():
    d = json.load(gzip.open(D + "intents/clinc150_full.json.gz"))
    return d["train"], d["test"]
def banking():
    def r(n): 
        rows = list(csv.reader(io.TextIOWrapper(gzip.open(D + f"intents/banking77_{n}.csv.gz"), "utf8")))[1:]
        return [(t, l) for t, l in rows]
    return r("train"), r("test")
def hwu():
    def r(n): return [(d["text"], d["label"]) for d in map(json.loads, gzip.open(D + f"intents/hwu64_{n}.jsonl.gz"))]
    return r("train"), r("test")
SETS = {"clinc": clinc, "banking": banking, "hwu": hwu}
def jl(p): return [json.loads(l) for l in gzip.open(D + p)]
def pairs():
    out = {}
    cf = jl("edits/counterfact_train.jsonl.gz"); out["cf"] = [(r["prompt"], r["rephrase_prompt"]) for r in cf]
    z = jl("edits/zsre_mend_train_1k.jsonl.gz"); out["zsre"] = [(r["src"], r["rephrase"]) for r in z]
    t = jl("corrections/tldr_history.jsonl.gz"); ps = []
    for r in t:
        ds = []
        for v in r["versions"]:
            d = (r.get("tool") or "") + ": " + v["description"]
            if d not in ds: ds.append(d)
        if len(ds) > 1: ps.append((ds[0], ds[-1]))
    out["tldr"] = ps
    return out

from model.encoder import Encoder, find_weights, tokenizer_in, PINNED
from model.encoder_weights import read_weights, HEADS, INNER, LAYERS, NORM_EPSILON, POSITIONS, WIDTH, WORDS
from transformers import BertConfig, BertModel

class LoRA(nn.Module):
    def __init__(s, lin, r):
        super().__init__(); s.lin = lin
        s.a = nn.Parameter(torch.randn(r, lin.in_features) / lin.in_features ** .5); s.b = nn.Parameter(torch.zeros(lin.out_features, r))
    def forward(s, x): return s.lin(x) + F.linear(F.linear(x, s.a.to(x.dtype)), s.b.to(x.dtype))

def network(rank):
    w = read_weights(find_weights(None), PINNED)
    m = BertModel(BertConfig(vocab_size=WORDS, hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=HEADS, max_position_embeddings=POSITIONS, layer_norm_eps=NORM_EPSILON, attn_implementation='eager'), add_pooling_layer=False)
    m.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in w.items()}); m.eval()
    for p in m.parameters(): p.requires_grad_(False)
    ls = []
    if rank:
        for l in m.encoder.layer:
            for parent, name in ((l.attention.self, "query"), (l.attention.self, "key"), (l.attention.self, "value"), (l.attention.output, "dense"), (l.intermediate, "dense"), (l.output, "dense")):
                x = LoRA(getattr(parent, name), rank); setattr(parent, name, x); ls.append(x)
    return m, ls
TOK = tokenizer_in(find_weights(None))
def ids(t): return TOK.encode(t).ids[:64]
def embed(m, rows):
    n = max(map(len, rows)); x = torch.zeros(len(rows), n, dtype=torch.long); k = torch.zeros(len(rows), n)
    for i, r in enumerate(rows): x[i, :len(r)] = torch.tensor(r); k[i, :len(r)] = 1
    h = m(x, attention_mask=k).last_hidden_state.float()
    v = (h * k[..., None]).sum(1) / k.sum(1, keepdim=True)
    return F.normalize(v, dim=-1)
def embed_all(m, texts):
    rows = [ids(t) for t in texts]; order = np.argsort([len(r) for r in rows]); out = np.empty((len(rows), WIDTH), np.float32)
    with torch.inference_mode():
        for i in range(0, len(order), 128):
            c = order[i:i + 128]; out[c] = embed(m, [rows[j] for j in c]).numpy()
    return out

def evaluate(m, name):
    tr, te = SETS[name](); X = embed_all(m, [t for t, _ in tr]); Q = embed_all(m, [t for t, _ in te]); y = np.array([l for _, l in tr]); yq = np.array([l for _, l in te])
    cl = sorted(set(y)); c2 = {c: i for i, c in enumerate(cl)}; Y = np.array([c2[l] for l in y]); Yq = np.array([c2[l] for l in yq])
    r = {}
    for k in (1, 5, 10):
        accs, nn_ = [], []
        for s in range(5):
            g = np.random.default_rng(s); idx = np.concatenate([g.permutation(np.where(Y == c)[0])[:k] for c in range(len(cl))])
            M = np.stack([X[idx][Y[idx] == c].mean(0) for c in range(len(cl))]); M /= np.linalg.norm(M, axis=1, keepdims=True)
            accs.append((np.argmax(Q @ M.T, 1) == Yq).mean()); nn_.append((Y[idx][np.argmax(Q @ X[idx].T, 1)] == Yq).mean())
        r[f"ncm{k}"] = round(100 * float(np.mean(accs)), 2); r[f"nn{k}"] = round(100 * float(np.mean(nn_)), 2)
    # kernel ridge on all
    g = np.random.default_rng(0); T = np.eye(len(cl), dtype=np.float32)[Y]
    idx = g.permutation(len(X))[:6000]
    K = np.exp(6 * (X[idx] @ X[idx].T - 1)).astype(np.float64); K[np.diag_indices(len(K))] += .1
    A = np.linalg.solve(K, T[idx].astype(np.float64)); P = np.exp(6 * (Q @ X[idx].T - 1)) @ A
    r["krr6k"] = round(100 * float((P.argmax(1) == Yq).mean()), 2)
    # stream: 2000 requests, best match, avoidable
    av = 0
    for s in range(3):
        g = np.random.default_rng(100 + s); o = g.permutation(len(X))[:2000]; seen = set(); keys = np.zeros((2000, WIDTH), np.float32); lab = np.zeros(2000, int); n = 0
        for i in o:
            p = lab[np.argmax(keys[:n] @ X[i])] if n else -1
            if p != Y[i]:
                av += Y[i] in seen; keys[n] = X[i]; lab[n] = Y[i]; n += 1; seen.add(Y[i])
    r["stream_avoidable"] = round(av / 3, 1)
    return r
def facts(m):
    rows = jl("edits/counterfact_val.jsonl.gz")[:979]
    K = embed_all(m, [r["prompt"] for r in rows]); G = embed_all(m, [r["rephrase_prompt"] for r in rows]); N = embed_all(m, [r["locality_prompt"] for r in rows])
    g = (np.argmax(G @ K.T, 1) == np.arange(len(K))).mean(); a = (G * K).sum(1); mx = (N @ K.T).max(1)
    ths = np.linspace(.3, .99, 140); best = max(((a > t).mean() + (mx < t).mean()) / 2 for t in ths)
    return {"cf_generality": round(float(g), 4), "cf_sep": round(float(best), 4)}

def half(m):
    for mod in m.modules():
        for n, p in mod.named_parameters(recurse=False):
            if not isinstance(mod, LoRA): p.data = p.data.bfloat16()
    return m
def full(m, ls):
    """Merged into float32."""
    n, _ = network(0); src = dict(m.named_modules())
    i = 0
    for l in n.encoder.layer:
        for parent, name in ((l.attention.self, "query"), (l.attention.self, "key"), (l.attention.self, "value"), (l.attention.output, "dense"), (l.intermediate, "dense"), (l.output, "dense")):
            w = getattr(parent, name).weight; w.data += (ls[i].b @ ls[i].a).detach().float(); i += 1
    return n
def train(left, rank, steps, lr, keep, temp, seed=0, mix=.35, hard=.5, out=None):
    torch.manual_seed(seed); random.seed(seed); np.random.seed(seed); m, ls = network(rank); half(m)
    base, _ = network(0); cache = "./base.npz"
    groups, everything = [], {}
    leave = set(left.split("+"))
    for n, f in SETS.items():
        if n in leave: continue
        by = {}
        for t, l in f()[0]: by.setdefault(l, []).append(t)
        groups.append((n, list(by.values())))
    ps = {k: [(a, b) for a, b in v if a != b] for k, v in pairs().items() if k not in leave}
    ts = sorted({t for _, g in groups for c in g for t in c} | {t for v in ps.values() for p in v for t in p})
    if os.path.exists(cache): z = np.load(cache, allow_pickle=True); known = dict(zip(z["t"].tolist(), z["v"]))
    else: known = {}
    new = [t for t in ts if t not in known]
    if new:
        known.update(zip(new, embed_all(base, new))); np.savez(cache, t=np.array(list(known), dtype=object), v=np.stack(list(known.values())))
    I = {t: ids(t) for t in ts}
    near = {}
    for n, g in groups:
        M = np.stack([np.mean([known[t] for t in c], 0) for c in g]); M /= np.linalg.norm(M, axis=1, keepdims=True); near[n] = np.argsort(-M @ M.T, 1)
    nearp = {}
    for k, v in ps.items():
        A = np.stack([known[a] for a, _ in v]); sim = A @ A.T; nearp[k] = np.argpartition(-sim, 16, axis=1)[:, :16]
    par = [p for l in ls for p in (l.a, l.b)]; opt = torch.optim.AdamW(par, lr=lr, weight_decay=.01)
    t0 = time.time(); logs = []
    for step in range(steps):
        for g in opt.param_groups: g["lr"] = lr * min(1, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        if ps and random.random() < mix:
            n = random.choice(list(ps)); v = ps[n]
            if random.random() < hard: c = list(dict.fromkeys(j for i in random.sample(range(len(v)), 12) for j in [i, *random.sample(nearp[n][i].tolist(), 5)]))[:48]
            else: c = random.sample(range(len(v)), 48)
            rows = [t for i in c for t in v[i]]; lab = torch.arange(len(c)).repeat_interleave(2)
        else:
            n, cl = random.choice(groups); k = 24
            c = near[n][random.randrange(len(cl))][:k].tolist() if random.random() < hard else random.sample(range(len(cl)), k); rows, lab = [], []
            for i in c:
                for x in random.sample(cl[i], min(4, len(cl[i]))): rows.append(x); lab.append(i)
            lab = torch.tensor(lab)
        v = embed(m, [I[t] for t in rows]); o = torch.from_numpy(np.stack([known[t] for t in rows]))
        S = v @ v.T / temp; eye = torch.eye(len(v), dtype=torch.bool); S = S.masked_fill(eye, -1e9)
        same = (lab[:, None] == lab[None]) & ~eye
        lp = S - S.logsumexp(1, keepdim=True)
        loss = -(torch.logsumexp(lp.masked_fill(~same, -1e9), 1)[same.any(1)]).mean()
        k = (1 - (v * o).sum(1)).mean()
        (loss + keep * k).backward(); torch.nn.utils.clip_grad_norm_(par, 1.0); opt.step(); opt.zero_grad()
        logs.append((loss.item(), k.item()))
        if step % 100 == 99: print(left, step + 1, "loss %.3f drift %.3f" % tuple(np.mean(logs[-100:], 0)), round(time.time() - t0), "s", flush=True)
    if out: torch.save([(l.a.detach(), l.b.detach()) for l in ls], out)
    return full(m, ls)
if __name__ == "__main__":
    left = sys.argv[1]; rank = int(sys.argv[2]); steps = int(sys.argv[3]); lr = float(sys.argv[4]); keep = float(sys.argv[5]); temp = float(sys.argv[6])
    m = network(0)[0] if steps == 0 else train(left, rank, steps, lr, keep, temp, out=f"./{left}-{rank}-{steps}-{lr}-{keep}-{temp}.pt")
    for s in SETS:
        if s in left.split("+"): print(sys.argv[1:], s, evaluate(m, s), flush=True)
    print(facts(m), flush=True)
