-- Reading the stored logs of many runs at once.
set search_path = public, extensions;

-- read_logs_v1 returns for each tail the run's state, and what its log has after
-- (attempt, seq), in order, from one snapshot: a row for each segment, or one
-- without. Data stops after max_bytes in all; a segment beyond comes without its
-- data, to tell that there is more.
create function agentedge.read_logs_v1(run_ids uuid[], attempts integer[], seqs integer[], max_bytes integer)
  returns table (
    place integer, state text, run_attempt integer, run_last_seq integer, log_gone boolean,
    attempt integer, first_seq integer, last_seq integer, data bytea
  ) language plpgsql stable set search_path = public, pg_temp
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off
  set enable_sort = off set jit = off as $$
#variable_conflict use_column
declare
  bytes bigint := 0;
  c record;
begin
  for c in
    select q.place, r.state, r.attempt as run_attempt, r.last_seq as run_last_seq, r.log_gone,
      s.attempt, s.first_seq, s.last_seq, s.data
    from unnest(run_ids, attempts, seqs) with ordinality q (run_id, attempt, seq, place)
    join runs r on r.id = q.run_id
    left join lateral (
      select s.attempt, s.first_seq, s.last_seq, s.data
      from run_segments s
      where s.run_id = q.run_id
        -- The segment that holds the next frame may begin before it.
        and (s.attempt, s.first_seq) >= (q.attempt, coalesce((
          select max(p.first_seq) from run_segments p
          where p.run_id = q.run_id and p.attempt = q.attempt and p.first_seq <= q.seq + 1), 0))
        and not (s.attempt = q.attempt and s.last_seq <= q.seq)
      order by s.attempt, s.first_seq
      limit 1024
    ) s on true
  loop
    place := c.place;
    state := c.state;
    run_attempt := c.run_attempt;
    run_last_seq := c.run_last_seq;
    log_gone := c.log_gone;
    attempt := c.attempt;
    first_seq := c.first_seq;
    last_seq := c.last_seq;
    data := case when bytes < max_bytes then c.data end;
    bytes := bytes + coalesce(octet_length(data), 0);
    return next;
  end loop;
end
$$;

revoke execute on all functions in schema agentedge from public;
grant execute on function agentedge.read_logs_v1 to service_role;
